"""Levels of integers over a calibrated range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.core.grid import Grid


@pytest.mark.parametrize("bits", [8, 4])
@given(low=st.floats(-1e4, 1e4), high=st.floats(-1e4, 1e4))
def test_the_range_and_zero_are_held(bits: int, low: float, high: float) -> None:
    low, high = min(low, high), max(low, high)
    grid = Grid.of_range(low, high, bits)
    first, last = grid.range
    assert first <= 0 <= last and 0 <= grid.zero <= grid.last == 2**bits - 1
    tolerance = grid.scale * 0.501  # zero lies on a level, so that the ends may lie half a step away
    assert first <= min(low, 0) + tolerance and last >= max(high, 0) - tolerance
    assert grid.scale == float(np.float32(grid.scale))


@pytest.mark.parametrize("bits", [8, 4])
@given(low=st.floats(-1e4, 0), width=st.floats(1e-3, 1e4))
def test_a_grid_comes_back_from_its_own_range(bits: int, low: float, width: float) -> None:
    grid = Grid.of_range(low, low + width, bits)
    assert Grid.of_range(*grid.range, bits) == grid


def test_the_numbers_of_a_known_range() -> None:
    grid = Grid.of_range(-1.0, 3.0)
    assert (grid.scale, grid.zero, grid.last) == (float(np.float32(4 / 255)), 64, 255)
    assert grid.signed_zero == -64
    assert grid.reach == 191 * grid.scale
    assert Grid.of_range(-1.0, 3.0, 4) == Grid(float(np.float32(4 / 15)), 4, 4)
    assert Grid.of_range(-1.0, 3.0, 4).signed_zero == -4
    assert Grid.of_range(-3.0, 1.0).reach == 191 * grid.scale


def test_a_range_beside_zero_is_widened_and_an_empty_one_has_a_scale() -> None:
    assert Grid.of_range(2.0, 5.0) == Grid.of_range(0.0, 5.0)
    assert Grid.of_range(-4.0, -1.0) == Grid.of_range(-4.0, 0.0)
    assert Grid.of_range(0.0, 0.0).scale > 0
