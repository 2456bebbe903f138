"""Training patches: aligned, keyed by (seed, epoch, index), of any image."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.images.bicubic import bicubic_up
from edgec.recipe import PhotographsData
from edgec.tasks.superres.pairs import built_in
from edgec.tasks.superres.patches import OpenedPairs, cut, superres_batches, turned
from edgec.tiles.contract import as_input


def coordinates(height: int, width: int) -> np.ndarray:
    """An image whose pixels tell where they are."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.uint8)
    return np.stack([rows, columns, rows ^ columns], 2)


def doubled(low: np.ndarray, scale: int) -> np.ndarray:
    return low.repeat(scale, 0).repeat(scale, 1)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(3, 40),
    st.integers(3, 40),
    st.integers(2, 24),
    st.sampled_from([2, 3, 4]),
    st.integers(0, 999),
)
def test_patch_and_partner_show_the_same_place(
    height: int, width: int, side: int, scale: int, seed: int
) -> None:
    low = coordinates(height, width)
    rng = np.random.default_rng(seed)
    small, large = cut(low, doubled(low, scale), side, scale, rng)
    small, large = turned(small, large, rng)
    assert small.shape == (side, side, 3) and large.shape == (side * scale, side * scale, 3)
    np.testing.assert_array_equal(doubled(small, scale), large)


def test_all_eight_symmetries_come_up() -> None:
    low = coordinates(4, 4)
    seen = {turned(low, low, np.random.default_rng(seed))[0].tobytes() for seed in range(200)}
    assert len(seen) == 8


def make(seed: int = 0, workers: int = 0, rank: int = 0, world: int = 1, **more: Any) -> list[torch.Tensor]:
    data = PhotographsData(format="photographs", scale=2, patch=8, patches=4, **more)
    rng = np.random.default_rng(5)
    images = [(f"i{k}", rng.integers(0, 256, (40, 30 + 2 * k, 3), dtype=np.uint8)) for k in range(4)]
    prepare = partial(as_input, grown=2 if data.enlarged else 1, scale=data.peak / 255)
    batches = superres_batches(
        OpenedPairs(built_in("s", images, 2)), data, prepare, 4, seed, workers, rank, world
    )
    try:
        return [t for epoch in (0, 1) for b in batches.epoch(epoch) for t in (b.images, b.targets)]
    finally:
        batches.close()


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    once, again, other = make(), make(), make(seed=1)
    assert len(once) == 2 * 2 * 4
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not torch.equal(once[0], other[0])
    assert not torch.equal(once[0], once[8])  # the next epoch draws anew


def test_workers_change_nothing() -> None:
    assert all(torch.equal(a, b) for a, b in zip(make(), make(workers=1), strict=True))


def test_ranks_share_an_epoch() -> None:
    parts = [make(rank=rank, world=2) for rank in (0, 1)]
    assert [len(p) for p in parts] == [8, 8]
    assert not torch.equal(parts[0][0], parts[1][0])


@pytest.mark.parametrize("peak", [1, 255])
def test_ranges_and_shapes(peak: int) -> None:
    images, targets = make(peak=peak)[:2]
    assert images.shape == (4, 3, 8, 8) and targets.shape == (4, 3, 16, 16)
    assert images.dtype == targets.dtype == torch.float32
    assert 0.8 * peak < float(images.max()) <= peak


def test_an_enlarged_input_is_the_bicubic_one() -> None:
    plain, enlarged = make()[0], make(enlarged=True)[0]
    low = (plain[0] * 255).round().byte().permute(1, 2, 0).numpy()
    expected = torch.from_numpy(bicubic_up(np.ascontiguousarray(low), 2)).permute(2, 0, 1) / 255
    torch.testing.assert_close(enlarged[0], expected, atol=1e-6, rtol=0)
