"""Adaptive cropping: an image in tiles, so that memory does not grow with the image.

The paper's four crops (Hui et al., ACM MM 2019), and their generalisation: any number of equal tiles with any overlap, one
after the other. Coordinates are pixels of the network's input; the output is `factor` times as large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]  # [n, 3, h, w] float32 -> [n, 3, factor * h, factor * w]
Finish = Callable[[np.ndarray], np.ndarray]  # [3, h, w] -> the same shape
SHAVE = 32  # the paper's overlap of the four crops
MULTIPLE = 4  # the paper rounds crops to it


class Input(Protocol):
    """What is cut into tiles: an array [3, h, w], or something that makes its parts when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, part: Any, /) -> Any: ...


@dataclass(frozen=True)
class Span:
    """A tile along one side: it covers start..start + size, and answers for first..last (exclusive)."""

    start: int
    first: int
    last: int


@dataclass(frozen=True)
class Tile:
    rows: Span
    columns: Span


@dataclass(frozen=True)
class Plan:
    """Equal tiles [height, width] that cover an input, each with the part that it answers for; no pixel twice."""

    height: int
    width: int
    tiles: tuple[Tile, ...]


def spans(side: int, tile: int, overlap: int, multiple: int = 1) -> list[Span]:
    """Tiles of `tile` pixels along a side; the last ones are shifted inwards. All starts are multiples of `multiple`."""
    if tile >= side:
        return [Span(0, 0, side)]
    step = (tile - 2 * overlap) // multiple * multiple
    if step < 1:
        raise ValueError(f"tiles of {tile} pixels leave nothing beside an overlap of {overlap} on both sides")
    starts = [*range(0, side - tile, step), side - tile]
    ends = [start + tile - overlap for start in starts[:-1]] + [side]
    return [Span(s, first, last) for s, first, last in zip(starts, [0, *ends[:-1]], ends, strict=True)]


def plan(height: int, width: int, tile: tuple[int, int], overlap: int, multiple: int = 1) -> Plan:
    """The tiles of an input of height x width. Both must be multiples of `multiple`; tiles are cut to the input.

    Raises ValueError when the overlap leaves nothing of a tile.
    """
    rows = min(-(-tile[0] // multiple) * multiple, height)
    columns = min(-(-tile[1] // multiple) * multiple, width)
    tiles = tuple(
        Tile(r, c)
        for r in spans(height, rows, overlap, multiple)
        for c in spans(width, columns, overlap, multiple)
    )
    return Plan(rows, columns, tiles)


def tile_within(
    budget_bytes: int, bytes_per_pixel: float, height: int, width: int, overlap: int, multiple: int = 1
) -> tuple[int, int]:
    """Height and width of the tiles of an input that keep to a memory budget: those that compute the fewest pixels in all.

    Raises ValueError that names the budget it takes, when the smallest tile is too large for this one.
    """
    pixels = budget_bytes / bytes_per_pixel
    best: tuple[int, tuple[int, int]] | None = None
    least = height * width
    for rows, down in _sizes(height, overlap, multiple):
        for columns, across in _sizes(width, overlap, multiple):
            least = min(least, rows * columns)
            if rows * columns <= pixels:
                total = rows * down * columns * across
                if best is None or total < best[0]:
                    best = total, (rows, columns)
                break  # smaller ones compute more
    if best is None:
        megabytes = math.ceil(least * bytes_per_pixel / 1e5) / 10
        raise ValueError(f"the smallest tile with an overlap of {overlap} pixels takes {megabytes:g}MB")
    return best[1]


def _sizes(side: int, overlap: int, multiple: int) -> list[tuple[int, int]]:
    """The sides of equal tiles, the largest first, and how many of each a side takes."""
    sizes = [(side, 1)]
    for count in range(2, side + 1):
        size = -(-(-(max(0, side - 2 * overlap) // -count) + 2 * overlap) // multiple) * multiple
        if size - 2 * overlap < multiple:
            break
        if size < sizes[-1][0]:
            sizes.append((size, 1 - (size - side) // ((size - 2 * overlap) // multiple * multiple)))
    return sizes


def cut(x: Input, tiles: Plan) -> Iterator[tuple[Tile, np.ndarray]]:
    """Each tile of an input [3, h, w] as [1, 3, tile height, tile width]."""
    for tile in tiles.tiles:
        r, c = tile.rows.start, tile.columns.start
        yield tile, np.ascontiguousarray(x[:, r : r + tiles.height, c : c + tiles.width])[None]


def paste(output: np.ndarray, made: np.ndarray, tile: Tile, factor: int) -> None:
    """Put the part of a tile's output [3, ., .] that the tile answers for into the whole output [3, ., .]."""
    (r0, r1, r), (c0, c1, c) = (
        (s.first * factor, s.last * factor, s.start * factor) for s in (tile.rows, tile.columns)
    )
    output[:, r0:r1, c0:c1] = made[:, r0 - r : r1 - r, c0 - c : c1 - c]


def tiled(run: Run, x: Input, tiles: Plan, factor: int, finish: Finish = lambda made: made) -> np.ndarray:
    """The output [3, factor * h, factor * w] of an input [3, h, w], tile after tile.

    `finish` changes a tile's output [3, ., .] before it is kept, to bytes for one, so that a large output takes less memory.
    Colours lie side by side in memory, as in image files.
    """
    output: np.ndarray | None = None
    for tile, part in cut(x, tiles):
        made = finish(run(part)[0])
        if output is None:
            whole = np.empty((x.shape[1] * factor, x.shape[2] * factor, 3), made.dtype)
            output = whole.transpose(2, 0, 1)
        paste(output, made, tile, factor)
    assert output is not None  # a plan has at least one tile
    return output


def four_crops(run: Run, x: np.ndarray, factor: int, shave: int = SHAVE, batch: bool = True) -> np.ndarray:
    """The paper's adaptive cropping, exactly: four crops at the corners, in one batch; each answers for a quarter.

    Sides of the crops are half the input's plus `shave`, rounded down to a multiple of 4. An input that a crop would not
    fit into is padded at the bottom and the right by mirroring, and the result cropped; the paper's code fails there.
    """
    height, width = x.shape[1:]
    sides = [(side // 2 + shave) // MULTIPLE * MULTIPLE for side in (height, width)]
    missing = [max(0, crop - side) for crop, side in zip(sides, (height, width), strict=True)]
    if any(missing):
        x = np.pad(x, ((0, 0), (0, missing[0]), (0, missing[1])), mode="symmetric")
        grown = four_crops(run, x, factor, shave, batch)
        return grown[:, : height * factor, : width * factor]
    rows, columns = (
        [Span(0, 0, side // 2), Span(side - crop, side // 2, side)]
        for side, crop in zip((height, width), sides, strict=True)
    )
    tiles = Plan(sides[0], sides[1], tuple(Tile(r, c) for r in rows for c in columns))
    if not batch:
        return tiled(run, x, tiles, factor)
    parts = list(cut(x, tiles))
    outputs = run(np.concatenate([part for _, part in parts]))
    output = np.empty((3, height * factor, width * factor), np.float32)
    for (tile, _), one in zip(parts, outputs, strict=True):
        paste(output, one, tile, factor)
    return output
