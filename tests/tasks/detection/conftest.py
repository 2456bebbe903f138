"""Small data sets on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Write = Callable[..., Path]


@pytest.fixture
def photo() -> Write:
    """Writes an image of noise: `photo(path, height, width)`."""

    def write(path: Path, height: int = 40, width: int = 60) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng((height, width))
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        return path

    return write


@pytest.fixture
def voc_image(photo: Write) -> Write:
    """Adds an image with annotation to a VOC folder and to its `train` list.

    `voc_image(root, "a", [("cat", 1, 1, 20, 20)])`; boxes are 1-based and inclusive, as VOC has them.
    """

    def write(
        root: Path,
        name: str,
        objects: list[tuple[object, ...]],
        *,
        split: str = "train",
        size: tuple[int, int] = (40, 60),
        claimed: tuple[int, int] | None = None,
        difficult: bool = False,
    ) -> Path:
        height, width = claimed or size
        photo(root / "JPEGImages" / f"{name}.jpg", *size)
        body = "".join(
            f"<object><name>{kind}</name><difficult>{int(difficult)}</difficult><bndbox><xmin>{x1}</xmin>"
            f"<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for kind, x1, y1, x2, y2 in objects
        )
        path = root / "Annotations" / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"<annotation><size><width>{width}</width><height>{height}</height><depth>3</depth></size>{body}</annotation>"
        )
        names = root / "ImageSets" / "Main" / f"{split}.txt"
        names.parent.mkdir(parents=True, exist_ok=True)
        with names.open("a") as lines:
            lines.write(f"{name}\n")
        return path

    return write
