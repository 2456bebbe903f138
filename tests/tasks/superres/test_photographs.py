"""The built-in photographs: there without a download, apart from each other, always the same."""

from __future__ import annotations

import hashlib

import numpy as np

from edgec.tasks.superres.photographs import HELD_OUT, TRAINING, held_out, training


def digests(images: list[tuple[str, np.ndarray]]) -> list[str]:
    return [hashlib.sha256(image.tobytes()).hexdigest() for _, image in images]


def test_training_and_validation_show_different_pictures() -> None:
    assert len(set(TRAINING)) == len(TRAINING) and not set(TRAINING) & set(HELD_OUT)
    assert not set(digests(training())) & set(digests(held_out()))


def test_they_are_rgb_and_some_have_colour() -> None:
    for images in (training(), held_out()):
        for name, image in images:
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3, name
        assert sum(bool((image[:, :, 0] != image[:, :, 2]).any()) for _, image in images) >= 2


def test_crops_lie_within_their_pictures() -> None:
    for (name, image), (_, _, width, height) in zip(held_out(), HELD_OUT.values(), strict=True):
        assert image.shape[:2] == (height, width), name
        assert max(height, width) <= 256 and not any(side % 12 for side in (height, width))  # x2, x3, x4


def test_they_are_the_same_each_time() -> None:
    assert digests(training()) == digests(training()) and digests(held_out()) == digests(held_out())
