"""Pairs of images from folders, checked on load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.core.errors import DataError
from edgec.images.bicubic import bicubic_down
from edgec.recipe import FolderData, ImageSet, PhotographsData
from edgec.tasks.superres.pairs import pairs_of
from edgec.tasks.superres.task import SuperResolution


def write(path: Path, height: int, width: int, mode: str = "RGB") -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
    data = np.random.default_rng(len(str(path))).integers(0, 256, (height, width, channels), dtype=np.uint8)
    Image.fromarray(data.squeeze(), mode).save(path)
    return data


def folder_data(root: Path, **more: object) -> FolderData:
    return FolderData.model_validate(
        {"format": "images", "root": root, "scale": 2, "train": "hr", "val": "hr", **more}
    )


def test_low_resolution_is_made_where_there_is_none(tmp_path: Path) -> None:
    image = write(tmp_path / "hr" / "a.png", 33, 40)
    pairs, problems = pairs_of(tmp_path, {"s": ImageSet(hr=Path("hr"))}, 2)
    assert not problems
    low, high = pairs[0].read()
    assert high.shape == (32, 40, 3)  # cropped to a multiple
    np.testing.assert_array_equal(low, bicubic_down(image[:32], 2))


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_grey_and_transparent_images_become_rgb(tmp_path: Path, mode: str) -> None:
    data = write(tmp_path / "hr" / "a.png", 32, 32, mode)
    pairs, _ = pairs_of(tmp_path, {"s": ImageSet(hr=Path("hr"))}, 2)
    _, high = pairs[0].read()
    expected = np.repeat(data, 3, 2) if mode == "L" else data[:, :, :3]
    np.testing.assert_array_equal(high, expected)


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    for name, size in (("good", 32), ("small", 8), ("lonely", 32), ("wrong", 32)):
        write(tmp_path / "hr" / f"{name}.png", size, size)
    for name, size in (("good", 16), ("small", 4), ("wrong", 15)):
        write(tmp_path / "lr" / f"{name}.png", size, size)
    (tmp_path / "hr" / "broken.png").write_bytes(b"no image")
    (tmp_path / "lr" / "broken.png").write_bytes(b"no image")
    sets = {
        "s": ImageSet(hr=Path("hr"), lr=Path("lr")),
        "out": ImageSet(hr=Path("../elsewhere")),
        "gone": ImageSet(hr=Path("nowhere")),
    }
    pairs, problems = pairs_of(tmp_path, sets, 2)
    assert [p.name for p in pairs] == ["good"]
    told = "\n".join(map(str, problems))
    for part in ("small.png", "lonely.png", "15 x 15", "broken.png", "is outside", "nowhere", "partner"):
        assert part in told, part


def test_images_that_share_a_name_are_reported(tmp_path: Path) -> None:
    for name in ("a.bmp", "a.png", "b.png"):
        write(tmp_path / "hr" / name, 32, 32)
    pairs, problems = pairs_of(tmp_path, {"s": ImageSet(hr=Path("hr"))}, 2)
    assert [p.name for p in pairs] == ["a", "b"]  # one name, one figure
    assert len(problems) == 1 and "a.png: has the name of a.bmp" in str(problems[0])


def test_other_files_beside_low_resolution_images_do_not_count(tmp_path: Path) -> None:
    write(tmp_path / "hr" / "a.png", 32, 32)
    low = write(tmp_path / "lr" / "a.png", 16, 16)
    (tmp_path / "lr" / "a.txt").write_text("a note")
    pairs, problems = pairs_of(tmp_path, {"s": ImageSet(hr=Path("hr"), lr=Path("lr"))}, 2)
    assert not problems
    np.testing.assert_array_equal(pairs[0].read()[0], low)


def test_an_image_must_not_link_out_of_the_root(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "a.png", 32, 32)
    write(tmp_path / "root" / "hr" / "b.png", 32, 32)
    (tmp_path / "root" / "hr" / "a.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    pairs, problems = pairs_of(tmp_path / "root", {"s": ImageSet(hr=Path("hr"))}, 2)
    assert [p.name for p in pairs] == ["b"]
    assert len(problems) == 1 and "is outside" in str(problems[0])
    absolute = ImageSet(hr=tmp_path / "elsewhere")  # named by the recipe itself
    pairs, problems = pairs_of(tmp_path / "root", {"s": absolute}, 2)
    assert [p.name for p in pairs] == ["a"] and not problems


def test_an_empty_folder_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "hr" / "a.png", 32, 32)
    (tmp_path / "lr").mkdir()
    pairs, problems = pairs_of(tmp_path, {"s": ImageSet(hr=Path("hr"), lr=Path("lr"))}, 2)
    assert not pairs and len(problems) == 1 and "holds no image" in str(problems[0])


def test_the_policy_decides(tmp_path: Path) -> None:
    write(tmp_path / "hr" / "good.png", 32, 32)
    (tmp_path / "hr" / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad\.png"):
        SuperResolution(folder_data(tmp_path), 0)
    assert SuperResolution(folder_data(tmp_path, problems="skip"), 0).size("train") == 1


def test_a_limit_takes_the_first_by_name(tmp_path: Path) -> None:
    for name in "cab":
        write(tmp_path / "hr" / f"{name}.png", 32, 32)
    pairs, _ = pairs_of(tmp_path, {"s": ImageSet(hr=Path("hr"), limit=2)}, 2)
    assert [p.name for p in pairs] == ["a", "b"]


def test_the_digest_follows_the_pixels_and_not_the_place(tmp_path: Path) -> None:
    for place in ("one", "two"):
        write(tmp_path / place / "hr" / "a.png", 32, 32)
    one, two = (SuperResolution(folder_data(tmp_path / place), 0).digest() for place in ("one", "two"))
    assert one == two
    Image.new("RGB", (32, 32)).save(tmp_path / "two" / "hr" / "a.png")
    assert SuperResolution(folder_data(tmp_path / "two"), 0).digest() != one
    settings = folder_data(tmp_path / "one", patch=24)
    assert SuperResolution(settings, 0).digest() != one


def test_the_photographs_need_nothing_and_do_not_overlap() -> None:
    task = SuperResolution(PhotographsData(format="photographs", scale=4), 0)
    names = {split: {p.name for p in task.opened(split).pairs} for split in ("train", "val")}
    assert len(names["train"]) >= 5 and len(names["val"]) >= 3
    assert not names["train"] & names["val"]
    low, high = task.opened("val")[0]
    assert high.shape == (low.shape[0] * 4, low.shape[1] * 4, 3) and max(high.shape) <= 240
