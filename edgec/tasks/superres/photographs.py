"""The built-in set: photographs that scikit-image ships, some for training, others for validation. No download.

The names here are pictures of the package; validation pictures are cropped, so that an evaluation takes seconds.
"""

from __future__ import annotations

import numpy as np

from edgec.core.errors import DataError, Problem
from edgec.images.reading import photograph
from edgec.recipe import PhotographsData
from edgec.tasks.superres.pairs import Pair, built_in

VERSION = 1  # raise it when an image of the set changes
TRAINING = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_right.png",
)
# name: left, top, width, height of what is taken
HELD_OUT = {
    "coffee.png": (180, 60, 240, 240),
    "rocket.jpg": (210, 60, 240, 240),
    "coins.png": (40, 20, 240, 240),
    "page.png": (0, 0, 240, 180),
}


def training() -> list[tuple[str, np.ndarray]]:
    """Names and RGB uint8 images."""
    return [(name.partition(".")[0], photograph(name)) for name in TRAINING]


def held_out() -> list[tuple[str, np.ndarray]]:
    """Names and RGB uint8 images of at most 240 x 240 pixels."""
    photographs: list[tuple[str, np.ndarray]] = []
    for name, (left, top, width, height) in HELD_OUT.items():
        image = photograph(name)[top : top + height, left : left + width]
        photographs.append((name.partition(".")[0], image))
    return photographs


def read_photographs(data: PhotographsData, split: str) -> tuple[list[Pair], list[Problem]]:
    """The pairs of a split, made by bicubic. Raises DataError for the test split, which there is none of."""
    if split == "test":
        raise DataError([Problem("data.test", "photographs have no test split", "use val")])
    return built_in("photographs", training() if split == "train" else held_out(), data.scale), []
