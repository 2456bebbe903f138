"""The checks that every format shares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgec.core.errors import DataError
from edgec.images.reading import inside
from edgec.tasks.detection.samples import Object, Raw, Sample, check_samples

Write = Callable[..., Path]


def raw(path: Path, *boxes: tuple[float, float, float, float]) -> Raw:
    return Raw(path.stem, path, [Object(f"object[{i}]", 0, box) for i, box in enumerate(boxes)], str(path))


def test_boxes_a_pixel_over_the_border_are_clipped(tmp_path: Path, photo: Write):
    path = photo(tmp_path / "a.png", 40, 60)
    samples, problems = check_samples([raw(path, (-0.9, -0.5, 60.9, 40.5), (0, 0, 61.5, 9))], ("cat",))
    assert samples[0].boxes.tolist() == [[0, 0, 60, 40]]
    assert [p.place for p in problems] == ["object[1]"]


def test_a_box_of_one_pixel_is_kept_and_a_thinner_one_is_not(tmp_path: Path, photo: Write):
    path = photo(tmp_path / "a.png", 40, 60)
    samples, problems = check_samples([raw(path, (3, 3, 4, 4), (3, 3, 3.9, 9))], ("cat",))
    assert samples[0].boxes.tolist() == [[3, 3, 4, 4]]
    assert [p.message for p in problems] == ["box 3, 3, 3.9, 9 is empty"]


def test_samples_keep_the_order_and_types(tmp_path: Path, photo: Write):
    raws = [raw(photo(tmp_path / f"{i}.png", 10 + i, 20), (0, 0, 5, 5)) for i in range(12)]
    samples, problems = check_samples(raws, ("cat",))
    assert problems == [] and [s.name for s in samples] == [str(i) for i in range(12)]
    assert [s.size for s in samples] == [(10 + i, 20) for i in range(12)]
    one = samples[0]
    assert (one.boxes.dtype, one.labels.dtype, one.difficult.dtype) == (np.float32, np.int64, bool)
    assert one.read().shape == (10, 20, 3)


def test_an_image_in_memory_is_read_as_it_is():
    image = np.zeros((4, 6, 3), np.uint8)
    sample = Sample(
        "a", image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool), (4, 6)
    )
    assert sample.read() is image


@pytest.mark.parametrize("relative", ["..", "../a", "a/../../b", "/etc/passwd", "a\0b", "link/x"])
def test_paths_do_not_leave_the_root(tmp_path: Path, relative: str):
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(DataError, match=r"data.train: .*is outside"):
        inside(root, relative, "data.train")


def test_a_link_inside_the_root_may_be_followed(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert inside(tmp_path, "link/x.jpg", "data") == tmp_path / "link/x.jpg"


def test_a_loop_of_links_does_not_crash(tmp_path: Path):
    (tmp_path / "x").symlink_to(tmp_path / "y")
    (tmp_path / "y").symlink_to(tmp_path / "x")
    with pytest.raises(DataError, match="is outside"):
        inside(tmp_path, "x", "data")
