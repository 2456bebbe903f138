"""YOLO txt folders and list files, good and bad."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.core.errors import DataError, Problem
from edgec.tasks.detection.samples import Sample, check_samples
from edgec.tasks.detection.yolo import read_yolo

Write = Callable[..., Path]


def load(root: Path, split: str = "images/train") -> tuple[list[Sample], list[Problem]]:
    raws, problems = read_yolo(root, split)
    samples, more = check_samples(raws, ("cat", "dog"))
    return samples, [*problems, *more]


def add(root: Path, photo: Write, name: str, text: str | None) -> Path:
    photo(root / "images" / "train" / f"{name}.png")
    label = root / "labels" / "train" / f"{name}.txt"
    label.parent.mkdir(parents=True, exist_ok=True)
    if text is not None:
        label.write_text(text)
    return label


def test_shares_become_pixels(tmp_path: Path, photo: Write):
    add(tmp_path, photo, "a", "1 0.5 0.5 0.5 0.25\n\n0 0.5 0.5 1 1\n")
    samples, problems = load(tmp_path)
    assert problems == []
    assert samples[0].boxes.tolist() == [[15, 15, 45, 25], [0, 0, 60, 40]]
    assert samples[0].labels.tolist() == [1, 0]


def test_an_image_without_label_file_is_background(tmp_path: Path, photo: Write):
    add(tmp_path, photo, "a", None)
    samples, problems = load(tmp_path)
    assert problems == [] and samples[0].boxes.shape == (0, 4)


def test_images_come_sorted_and_from_subfolders(tmp_path: Path, photo: Write):
    for name in ("b", "a", "deep/c"):
        photo(tmp_path / "images" / "train" / f"{name}.png")
    (tmp_path / "images/train/notes.md").write_text("no image")
    assert [Path(s.name).stem for s in load(tmp_path)[0]] == ["a", "b", "c"]


def test_a_list_file_names_the_images(tmp_path: Path, photo: Write):
    add(tmp_path, photo, "a", "0 0.5 0.5 1 1")
    add(tmp_path, photo, "b", "1 0.5 0.5 1 1")
    (tmp_path / "train.txt").write_text(f"images/train/b.png\n\n{tmp_path}/images/train/a.png\n")
    samples, problems = load(tmp_path, "train.txt")
    assert problems == [] and [s.labels.tolist() for s in samples] == [[1], [0]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.001 0.5", "is empty"),
        ("0 0.5 0.5 -0.5 0.5", "is empty"),
        ("0 nan 0.5 0.5 0.5", "is empty"),
        ("0 0.9 0.5 0.5 0.5", "outside the image of 60 x 40"),
        ("2 0.5 0.5 0.5 0.5", "class 2 is not in the list"),
        ("-1 0.5 0.5 0.5 0.5", "class -1 is not in the list"),
    ],
)
def test_a_bad_box_is_named_by_file_and_line(tmp_path: Path, photo: Write, line: str, words: str):
    label = add(tmp_path, photo, "a", f"1 0.5 0.5 0.5 0.5\n{line}\n")
    samples, problems = load(tmp_path)
    assert [p.place for p in problems] == [f"{label}:2"]
    assert words in problems[0].message and problems[0].remedy
    assert samples[0].labels.tolist() == [1]


@pytest.mark.parametrize(
    "line", ["0 0.5 0.5 0.5", "0 0.5 0.5 0.5 0.5 0.9", "cat 0.5 0.5 0.5 0.5", "0.5 0 0 0 0", "\0"]
)
def test_a_malformed_line_is_named(tmp_path: Path, photo: Write, line: str):
    label = add(tmp_path, photo, "a", f"1 0.5 0.5 0.5 0.5\n{line}\n")
    samples, problems = load(tmp_path)
    assert samples == [] and [p.place for p in problems] == [f"{label}:2"]
    assert "class cx cy w h" in problems[0].message


def test_a_broken_image_does_not_hide_the_others(tmp_path: Path, photo: Write):
    add(tmp_path, photo, "a", "1 0.5 0.5 0.5 0.5")
    add(tmp_path, photo, "b", "bad")
    (tmp_path / "images/train/c.jpg").write_bytes(b"no image")
    samples, problems = load(tmp_path)
    assert [Path(s.name).stem for s in samples] == ["a"]
    assert len(problems) == 2 and {p.place.rsplit("/", 1)[1] for p in problems} == {"b.txt:1", "c.jpg"}


@pytest.mark.parametrize("line", ["../outside.png", "/etc/passwd", "images/../../outside.png"])
def test_a_list_file_stays_inside_the_root(tmp_path: Path, photo: Write, line: str):
    photo(tmp_path / "outside.png")
    root = tmp_path / "root"
    add(root, photo, "a", None)
    (root / "train.txt").write_text(f"images/train/a.png\n{line}\n")
    samples, problems = load(root, "train.txt")
    assert len(samples) == 1 and [p.place for p in problems] == [f"{root / 'train.txt'}:2"]
    assert "is outside" in problems[0].message


def test_a_listed_image_that_is_missing_is_named(tmp_path: Path, photo: Write):
    add(tmp_path, photo, "a", None)
    (tmp_path / "train.txt").write_text("images/train/gone.png\n")
    samples, problems = load(tmp_path, "train.txt")
    assert samples == [] and "gone.png: cannot be read" in str(problems[0])


@pytest.mark.parametrize("part", ["images/train/x.png", "labels/train/a.txt"])
def test_links_out_of_the_root_are_refused(tmp_path: Path, photo: Write, part: str):
    root = tmp_path / "root"
    add(root, photo, "a", None)
    outside = tmp_path / Path(part).name
    if outside.suffix == ".png":
        photo(outside)
    else:
        outside.write_text("1 0.5 0.5 0.5 0.5")
    (root / part).symlink_to(outside)
    _, problems = load(root)
    assert len(problems) == 1 and "is outside" in problems[0].message


def test_a_linked_image_keeps_its_own_label(tmp_path: Path, photo: Write):
    label = add(tmp_path, photo, "a", "1 0.5 0.5 0.5 0.5")
    image = tmp_path / "images/train/a.png"
    (tmp_path / "store").mkdir()
    image.rename(tmp_path / "store/x.png")
    image.symlink_to(tmp_path / "store/x.png")
    samples, problems = load(tmp_path)
    assert problems == [] and label.exists()
    assert samples[0].labels.tolist() == [1]


@pytest.mark.parametrize("split", ["images/none", "../x", "/etc"])
def test_a_split_that_is_not_there_is_named(tmp_path: Path, split: str):
    with pytest.raises(DataError, match=r"neither a folder nor a list|is outside"):
        read_yolo(tmp_path, split)


def test_tiff_and_capital_suffixes_are_read(tmp_path: Path, photo: Write) -> None:
    for name in ("a.TIF", "b.JPG"):
        photo(tmp_path / "images" / "train" / name)
        label = tmp_path / "labels" / "train" / f"{name[0]}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.5 0.5\n")
    samples, problems = load(tmp_path)
    assert problems == [] and [Path(str(s.image)).name for s in samples] == ["a.TIF", "b.JPG"]
