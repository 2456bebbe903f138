"""A sample, and the checks that every format shares."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.core.errors import DataError, Problem
from edgec.images.reading import read_image


@dataclass(frozen=True)
class Sample:
    """One image and its objects, in pixels of the image."""

    name: str
    image: Path | np.ndarray  # a file, or RGB uint8 [h, w, 3]
    boxes: np.ndarray  # [n, 4] float32 xyxy
    labels: np.ndarray  # [n] int64
    difficult: np.ndarray  # [n] bool
    size: tuple[int, int]  # height, width of the image

    def read(self) -> np.ndarray:
        return read_image(self.image) if isinstance(self.image, Path) else self.image


@dataclass(frozen=True)
class Object:
    """An object as a format gives it, before it is checked."""

    place: str  # file:line or file object[2]
    label: str | int  # name, or index into the classes
    box: tuple[float, float, float, float]  # xyxy, pixels
    difficult: bool = False


@dataclass(frozen=True)
class Raw:
    """An image as a format gives it, before it is checked. `size` is what the annotation claims."""

    name: str
    path: Path
    objects: Sequence[Object]
    place: str
    size: tuple[int, int] | None = None  # height, width


def check_samples(
    raws: Sequence[Raw], classes: Sequence[str], tolerance: float = 1.0
) -> tuple[list[Sample], list[Problem]]:
    """The good samples and every problem. A bad object is left out of its sample; a bad image is left out whole.

    Boxes may pass the border by `tolerance` pixels (rounding); they are clipped.
    """
    index = {name: i for i, name in enumerate(classes)}
    problems: list[Problem] = []
    samples: list[Sample] = []
    with ThreadPoolExecutor(2) as pool:
        sizes = list(pool.map(_size_or_problem, raws))
    for raw, size in zip(raws, sizes, strict=True):
        if isinstance(size, DataError):
            problems += size.problems
            continue
        height, width = size
        if raw.size is not None and raw.size != size:
            message = f"says {raw.size[1]} x {raw.size[0]}, the image has {width} x {height} pixels"
            problems.append(Problem(raw.place, message, "annotate the image that is there"))
            continue
        good: list[tuple[tuple[float, ...], int, bool]] = []
        for item in raw.objects:
            label = index.get(item.label, -1) if isinstance(item.label, str) else item.label
            x1, y1, x2, y2 = item.box
            shown = ", ".join(f"{v:g}" for v in item.box)
            if not 0 <= label < len(classes):
                problems.append(
                    Problem(
                        item.place,
                        f"class {item.label!r} is not in the list",
                        f"add it to data.classes {list(classes)}",
                    )
                )
            elif not np.isfinite(item.box).all() or x2 - x1 < 1 or y2 - y1 < 1:
                problems.append(
                    Problem(item.place, f"box {shown} is empty", "draw it at least 1 pixel wide and high")
                )
            elif min(x1, y1) < -tolerance or x2 > width + tolerance or y2 > height + tolerance:
                message = f"box {shown} lies outside the image of {width} x {height}"
                problems.append(Problem(item.place, message, "clip or correct it"))
            else:
                box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
                good.append((box, label, item.difficult))
        samples.append(
            Sample(
                raw.name,
                raw.path,
                np.array([g[0] for g in good], np.float32).reshape(-1, 4),
                np.array([g[1] for g in good], np.int64),
                np.array([g[2] for g in good], bool),
                size,
            )
        )
    return samples, problems


def _size_or_problem(raw: Raw) -> tuple[int, int] | DataError:
    """(height, width) of the image, decoded whole so that a truncated file is found."""
    try:
        image = read_image(raw.path)
    except DataError as error:
        return error
    return image.shape[0], image.shape[1]
