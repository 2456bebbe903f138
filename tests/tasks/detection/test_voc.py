"""PASCAL VOC folders, good and bad."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.core.errors import DataError, Problem
from edgec.tasks.detection.samples import Sample, check_samples
from edgec.tasks.detection.voc import read_voc

Write = Callable[..., Path]
CLASSES = ("cat", "dog")


def load(root: Path) -> tuple[list[Sample], list[Problem]]:
    raws, problems = read_voc(root, "train")
    samples, more = check_samples(raws, CLASSES)
    return samples, [*problems, *more]


def test_boxes_become_zero_based_and_exclusive(tmp_path: Path, voc_image: Write):
    voc_image(tmp_path, "a", [("dog", 1, 1, 60, 40), ("cat", 11, 5, 20, 9)])
    samples, problems = load(tmp_path)
    assert problems == []
    assert samples[0].boxes.tolist() == [[0, 0, 60, 40], [10, 4, 20, 9]]
    assert samples[0].labels.tolist() == [1, 0]
    assert samples[0].difficult.tolist() == [False, False]
    assert samples[0].size == (40, 60)


def test_difficult_is_read(tmp_path: Path, voc_image: Write):
    voc_image(tmp_path, "a", [("dog", 1, 1, 60, 40)], difficult=True)
    assert load(tmp_path)[0][0].difficult.tolist() == [True]


def test_an_image_without_objects_is_a_sample(tmp_path: Path, voc_image: Write):
    voc_image(tmp_path, "a", [])
    samples, problems = load(tmp_path)
    assert problems == [] and samples[0].boxes.shape == (0, 4)


def test_class_lists_name_the_images_that_hold_the_class(tmp_path: Path, voc_image: Write):
    for name in "ab":
        voc_image(tmp_path, name, [("cat", 1, 1, 9, 9)])
    (tmp_path / "ImageSets/Main/train.txt").write_text("a  1\nb -1\n\n")
    assert [s.name for s in load(tmp_path)[0]] == ["a"]


@pytest.mark.parametrize(
    ("box", "words"),
    [
        (("cat", 5, 5, 5, 9), "is empty"),
        (("cat", 5, 9, 9, 9), "is empty"),
        (("cat", 9, 9, 5, 5), "is empty"),
        (("cat", "nan", 1, 9, 9), "is empty"),
        (("cat", 1, 1, 90, 9), "outside the image of 60 x 40"),
        (("cat", -5, 1, 9, 9), "outside the image of 60 x 40"),
        (("cow", 1, 1, 9, 9), "'cow' is not in the list"),
        (("", 1, 1, 9, 9), "'' is not in the list"),
    ],
)
def test_a_bad_object_is_named_and_left_out(
    tmp_path: Path, voc_image: Write, box: tuple[object, ...], words: str
):
    path = voc_image(tmp_path, "a", [("dog", 1, 1, 9, 9), box])
    samples, problems = load(tmp_path)
    assert len(problems) == 1
    assert problems[0].place == f"{path} object[1]"
    assert words in problems[0].message and problems[0].remedy
    assert samples[0].labels.tolist() == [1]


@pytest.mark.parametrize("number", ["", "ten", "1 2"])
def test_a_box_without_numbers_is_named(tmp_path: Path, voc_image: Write, number: str):
    path = voc_image(tmp_path, "a", [("dog", number, 1, 9, 9)])
    samples, problems = load(tmp_path)
    assert samples == []
    assert [p.place for p in problems] == [f"{path} object[0]"]


def test_a_size_that_disagrees_with_the_image_is_named(tmp_path: Path, voc_image: Write):
    path = voc_image(tmp_path, "a", [("dog", 1, 1, 9, 9)], claimed=(60, 40))
    samples, problems = load(tmp_path)
    assert samples == [] and [p.place for p in problems] == [str(path)]
    assert "says 40 x 60, the image has 60 x 40" in problems[0].message


def test_every_problem_is_listed(tmp_path: Path, voc_image: Write):
    for name in ("good", "noxml", "nojpg", "cut", "text"):
        voc_image(tmp_path, name, [("cat", 1, 1, 9, 9)])
    (tmp_path / "Annotations/noxml.xml").unlink()
    (tmp_path / "JPEGImages/nojpg.jpg").unlink()
    cut = tmp_path / "JPEGImages/cut.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    (tmp_path / "JPEGImages/text.jpg").write_text("not found")
    samples, problems = load(tmp_path)
    assert [s.name for s in samples] == ["good"]
    words = sorted(str(p) for p in problems)
    assert len(words) == 4
    listed = str(tmp_path / "ImageSets/Main/train.txt")
    assert any(w.startswith(f"{listed}:2: ") and "noxml.xml is missing" in w for w in words)
    assert any(w.startswith(f"{listed}:3: ") and "no image JPEGImages/nojpg.jpg" in w for w in words)
    assert any("cut.jpg: is a broken image" in w for w in words)
    assert any("text.jpg: is not an image" in w for w in words)


@pytest.mark.parametrize(
    "head", ['<!DOCTYPE a [<!ENTITY x "cat">]>', '<!DOCTYPE a SYSTEM "file:///etc/passwd">']
)
def test_a_document_type_is_refused(tmp_path: Path, voc_image: Write, head: str):
    path = voc_image(tmp_path, "a", [("cat", 1, 1, 9, 9)])
    path.write_text(head + path.read_text())
    samples, problems = load(tmp_path)
    assert samples == [] and "DTD" in problems[0].message and problems[0].place == str(path)


@pytest.mark.parametrize("text", ["", "<annotation>", "\x00", "{}", "<a/><b/>"])
def test_what_is_not_xml_is_named(tmp_path: Path, voc_image: Write, text: str):
    path = voc_image(tmp_path, "a", [])
    path.write_text(text)
    samples, problems = load(tmp_path)
    assert samples == [] and problems[0].place == str(path) and "not valid XML" in problems[0].message


@pytest.mark.parametrize("name", ["../../a", "../../../etc/passwd", "x/../../../a"])
def test_ids_stay_inside_the_root(tmp_path: Path, voc_image: Write, name: str):
    root = tmp_path / "deep" / "root"
    voc_image(root, "a", [("cat", 1, 1, 9, 9)])
    (root / "ImageSets/Main/train.txt").write_text(f"a\n{name}\n")
    samples, problems = load(root)
    assert [s.name for s in samples] == ["a"]
    assert len(problems) == 1 and problems[0].place.endswith("train.txt:2")
    assert "is outside" in problems[0].message


@pytest.mark.parametrize("part", ["JPEGImages/a.jpg", "Annotations/a.xml"])
def test_links_out_of_the_root_are_refused(tmp_path: Path, voc_image: Write, part: str):
    root = tmp_path / "root"
    voc_image(root, "a", [("cat", 1, 1, 9, 9)])
    outside = tmp_path / Path(part).name
    (root / part).rename(outside)
    (root / part).symlink_to(outside)
    samples, problems = load(root)
    assert samples == [] and "is outside" in problems[0].message


def test_a_split_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"ImageSets/Main/train\.txt: cannot be read"):
        read_voc(tmp_path, "train")
    with pytest.raises(DataError, match="is outside"):
        read_voc(tmp_path, "../../../x")


@pytest.mark.data
def test_blood_cells_have_two_empty_boxes(shared_data: Path):
    root = shared_data / "bccd"
    if not root.is_dir():
        pytest.skip("no BCCD")
    counts, places = 0, []
    for split in ("train", "val", "test"):
        raws, problems = read_voc(root, split)
        samples, more = check_samples(raws, ("RBC", "WBC", "Platelets"))
        counts += sum(len(s.boxes) for s in samples)
        places += [str(p) for p in [*problems, *more]]
    assert counts == 4888 - 2
    assert len(places) == 2 and all("is empty" in p for p in places)
    assert sum("BloodImage_00338" in p for p in places) == sum("BloodImage_00343" in p for p in places) == 1


@pytest.mark.data
def test_voc_test_split_loads_whole(shared_data: Path):
    root = shared_data / "voc"
    if not root.is_dir():
        pytest.skip("no VOC")
    raws, problems = read_voc(root, "test")
    classes = sorted({o.label for raw in raws for o in raw.objects if isinstance(o.label, str)})
    samples, more = check_samples(raws, classes)
    assert len(classes) == 20 and len(samples) == 114 and [*problems, *more] == []
    assert sum(len(s.boxes) for s in samples) == 342


@pytest.mark.parametrize("suffix", [".JPG", ".Jpeg", ".PNG", ".tif", ".TIFF", ".webp"])
def test_an_image_is_found_whatever_its_suffix(
    tmp_path: Path, voc_image: Write, photo: Write, suffix: str
) -> None:
    voc_image(tmp_path, "a", [("dog", 1, 1, 60, 40)])
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    photo(tmp_path / "JPEGImages" / f"a{suffix}", 40, 60)
    samples, problems = load(tmp_path)
    assert problems == [] and samples[0].image == tmp_path / "JPEGImages" / f"a{suffix}"


def test_a_link_out_of_the_root_is_refused(tmp_path: Path, voc_image: Write) -> None:
    root = tmp_path / "data"
    voc_image(root, "a", [("dog", 1, 1, 60, 40)])
    (root / "JPEGImages" / "a.jpg").rename(tmp_path / "outside.jpg")
    (root / "JPEGImages" / "a.jpg").symlink_to(tmp_path / "outside.jpg")
    assert "JPEGImages/a.jpg" in str(load(root)[1][0])
