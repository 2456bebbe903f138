"""MATLAB's bicubic: the same pixels as the LR images that the papers' authors published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.core.errors import DataError
from edgec.images.bicubic import bicubic_down, bicubic_up, cropped, resized
from edgec.images.reading import read_image


@pytest.mark.data
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("benchmark", ["Set5", "Set14"])
def test_published_images_are_reproduced_bit_for_bit(shared_data: Path, benchmark: str, scale: int) -> None:
    folder = shared_data / "sr" / "eval" / benchmark
    files = sorted((folder / "HR").iterdir())
    assert len(files) >= 5
    for path in files:
        made = bicubic_down(cropped(read_image(path), scale), scale)
        np.testing.assert_array_equal(made, read_image(folder / f"LR_x{scale}" / path.name), path.name)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 255), st.sampled_from([2, 3, 4]), st.integers(1, 9), st.integers(1, 9))
def test_flat_images_stay_flat(value: int, scale: int, height: int, width: int) -> None:
    image = np.full((height * scale, width * scale, 3), value, np.uint8)
    assert (bicubic_down(image, scale) == value).all()
    assert bicubic_down(image, scale).shape == (height, width, 3)
    assert (bicubic_up(image, scale) == value).all()


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([2, 3, 4]), st.integers(0, 2**16))
def test_mirroring_commutes_with_resizing(scale: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (6 * scale, 5 * scale, 3), dtype=np.uint8)
    np.testing.assert_array_equal(bicubic_down(image[:, ::-1], scale), bicubic_down(image, scale)[:, ::-1])
    turned = bicubic_down(image[::-1], scale)[::-1]
    # the vertical pass may round a tie to the other side
    assert np.abs(turned.astype(int) - bicubic_down(image, scale)).max() <= 1


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([2, 3, 4]), st.integers(0, 2**16))
def test_a_part_is_resized_as_within_the_whole(scale: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (24, 30, 3), dtype=np.uint8)
    top, left = (int(n) for n in rng.integers(1, 12, 2))
    edge = 3 * scale  # the part's own border is mirrored
    part = bicubic_up(image[top:, left:], scale)[edge:, edge:]
    np.testing.assert_array_equal(part, bicubic_up(image, scale)[top * scale + edge :, left * scale + edge :])


def test_a_ramp_stays_a_ramp_inside() -> None:
    ramp = np.tile(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], (12, 1, 3))
    small = resized(ramp, (6, 30))
    np.testing.assert_array_equal(small[3, 3:-3, 0], 8 * np.arange(3, 27) + 2)


def test_sizes_that_no_multiple_reaches() -> None:
    image = np.zeros((13, 22, 3), np.uint8)
    assert cropped(image, 4).shape == (12, 20, 3)
    with pytest.raises(DataError, match="crop it first"):
        bicubic_down(image, 4)
