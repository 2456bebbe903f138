"""Tiles: every pixel once, seams that are not there, and a memory budget that is kept to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgec.tiles.crops import four_crops, plan, spans, tile_within, tiled


def network(factor: int = 2, layers: int = 3) -> nn.Module:
    """Convolutions alone: radius `layers` + 1."""
    torch.manual_seed(0)
    body: list[nn.Module] = [nn.Conv2d(3, 8, 3, padding=1)]
    for _ in range(layers - 1):
        body += [nn.LeakyReLU(0.05), nn.Conv2d(8, 8, 3, padding=1)]
    return nn.Sequential(*body, nn.Conv2d(8, 3 * factor**2, 3, padding=1), nn.PixelShuffle(factor)).eval()


def runner(net: nn.Module):
    def run(part: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return net(torch.from_numpy(part)).numpy()

    return run


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((3, height, width), dtype=np.float32)


@settings(max_examples=200, deadline=None)
@given(
    side=st.integers(1, 300),
    tile=st.integers(1, 120),
    overlap=st.integers(0, 20),
    cell=st.sampled_from([1, 2, 4]),
)
def test_spans_answer_for_every_pixel_once(side: int, tile: int, overlap: int, cell: int) -> None:
    side, tile, overlap = (-(-v // cell) * cell for v in (side, tile, overlap))
    if tile < side and tile - 2 * overlap < cell:
        with pytest.raises(ValueError, match="overlap"):
            spans(side, tile, overlap, cell)
        return
    found = spans(side, tile, overlap, cell)
    covered = [i for s in found for i in range(s.first, s.last)]
    assert covered == list(range(side))
    for s in found:
        assert s.start % cell == 0 and s.start >= 0 and s.start + min(tile, side) <= side
        inner_left = s.first - s.start >= overlap or s.start == 0
        inner_right = s.start + min(tile, side) - s.last >= overlap or s.last == side
        assert inner_left and inner_right  # what a tile answers for is an overlap away from its inner edges


@settings(max_examples=25, deadline=None)
@given(st.integers(5, 70), st.integers(5, 70), st.integers(14, 40), st.sampled_from([2, 3]))
def test_tiles_equal_the_whole(height: int, width: int, tile: int, factor: int) -> None:
    run, x = runner(network(factor)), image(height, width)
    whole = run(x[None])[0]
    made = tiled(run, x, plan(height, width, (tile, tile + 3), overlap=4), factor)
    np.testing.assert_allclose(made, whole, atol=2e-6)


def test_too_small_an_overlap_shows_at_the_seams_and_only_there() -> None:
    run, x = runner(network()), image(64, 64)
    whole = run(x[None])[0]
    tiles = plan(64, 64, (32, 64), overlap=1)
    off = np.abs(tiled(run, x, tiles, 2) - whole).max((0, 2))
    seams = {t.rows.last * 2 for t in tiles.tiles} - {128}
    near = {row + d for row in seams for d in range(-6, 6)}
    assert max(off[row] for row in near) > 1e-3
    assert max(off[row] for row in range(128) if row not in near) < 2e-6


def test_a_strided_network_stays_on_its_grid() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2)).eval()
    run, x = runner(net), image(60, 44)
    made = tiled(run, x, plan(60, 44, (24, 20), overlap=4, multiple=2), 1)
    np.testing.assert_allclose(made, run(x[None])[0], atol=2e-6)


def test_outputs_may_be_bytes() -> None:
    run, x = runner(network()), image(40, 30)
    made = tiled(run, x, plan(40, 30, (20, 20), 4), 2, lambda y: np.clip(y * 255, 0, 255).astype(np.uint8))
    assert made.dtype == np.uint8 and made.shape == (3, 80, 60)


@settings(max_examples=100, deadline=None)
@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    pixels=st.integers(200, 10**6),
    overlap=st.integers(0, 30),
    cell=st.sampled_from([1, 4]),
)
def test_tiles_keep_to_the_budget(height: int, width: int, pixels: int, overlap: int, cell: int) -> None:
    height, width, overlap = (-(-v // cell) * cell for v in (height, width, overlap))
    if min(height, 2 * overlap + cell) * min(width, 2 * overlap + cell) > pixels:
        with pytest.raises(ValueError, match="smallest tile"):
            tile_within(pixels * 5000, 5000, height, width, overlap, cell)
        return
    rows, columns = tile_within(pixels * 5000, 5000, height, width, overlap, cell)
    assert rows <= height and columns <= width and rows * columns <= pixels
    tiles = plan(height, width, (rows, columns), overlap, cell)
    assert (tiles.height, tiles.width) == (rows, columns)
    if height * width <= pixels:
        assert len(tiles.tiles) == 1


def test_tiles_compute_as_little_as_the_budget_allows() -> None:
    def computed(tile: tuple[int, int]) -> int:
        return len(plan(500, 400, tile, 9).tiles) * tile[0] * tile[1]

    chosen = computed(tile_within(20_000, 1, 500, 400, 9))
    others = [(r, c) for r in range(20, 501, 24) for c in range(20, 401, 19) if r * c <= 20_000]
    assert chosen <= min(map(computed, others))


@pytest.mark.parametrize("size", [(30_000, 10), (10, 30_000), (1, 1)])
def test_narrow_images_get_long_tiles(size: tuple[int, int]) -> None:
    rows, columns = tile_within(256_000_000, 5000, *size, overlap=27)
    assert min(rows, columns) == min(size)
    assert len(plan(*size, (rows, columns), 27).tiles) <= 6


def test_the_papers_four_crops() -> None:
    seen: list[tuple[int, ...]] = []

    def run(part: np.ndarray) -> np.ndarray:
        seen.append(part.shape)
        return np.stack([np.full_like(one, k) for k, one in enumerate(part)])

    # 101 x 130: (50 + 32) - (82 mod 4) = 80 rows, (65 + 32) - (97 mod 4) = 96 columns
    made = four_crops(run, image(101, 130), factor=1)
    assert seen == [(4, 3, 80, 96)]
    quarters = [made[0, 0, 0], made[0, 0, -1], made[0, -1, 0], made[0, -1, -1]]
    assert quarters == [0, 1, 2, 3]
    assert (made[0, :50, :65] == 0).all() and (
        made[0, 50:, 65:] == 3
    ).all()  # rows 0..h//2-1 are the upper ones'


def test_four_crops_equal_the_whole_and_small_images_work() -> None:
    run = runner(network())
    for height, width in ((101, 130), (58, 200), (20, 33)):
        x = image(height, width)
        whole = run(x[None])[0]
        for batch in (True, False):
            made = four_crops(run, x, 2, batch=batch)
            assert made.shape == whole.shape
            # mirrored borders of small images differ from zero padding, near the edge alone
            inner = (slice(None), slice(0, (height - 6) * 2), slice(0, (width - 6) * 2))
            np.testing.assert_allclose(made[inner], whole[inner], atol=2e-6)
