"""Whole-image statistics for tiles: what global attention pools over the image, gathered tile by tile.

Attention that pools over the whole image gives each tile other gates than the image would. In the exact mode the k-th
statistic is gathered over all tiles with the ones before it already known, each pixel once; then the tiles are run with
the whole image's statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from edgec.tiles.crops import Finish, Input, Plan, Tile, cut, tiled

Known = Mapping[str, np.ndarray]  # statistic -> its value over the whole image


class Staged(Protocol):
    """A network that can be run up to a statistic, and with statistics given."""

    maps: list[str]  # what statistics are taken of, in the order in which they depend on each other

    def map(self, name: str, part: np.ndarray, known: Known) -> np.ndarray:
        """A map [1, c, h', w'] of a tile [1, 3, h, w]."""
        ...

    def gather(self, name: str, mean: np.ndarray, variance: np.ndarray) -> Known:
        """The statistics that a map's moments [1, c, 1, 1] over the whole image make known."""
        ...

    def run(self, part: np.ndarray, known: Known) -> np.ndarray: ...


def whole_image(network: Staged, x: Input, tiles: Plan) -> Known:
    """The statistics of the whole input [3, h, w], gathered tile by tile."""
    known: dict[str, np.ndarray] = {}
    for name in network.maps:
        count, total, squares = 0, 0.0, 0.0
        for tile, part in cut(x, tiles):
            own = _own(network.map(name, part, known), tile, tiles)
            count += own.shape[1] * own.shape[2]
            for row in own.swapaxes(0, 1):  # a copy of all in double precision would be larger than the map
                row = row.astype(np.float64)
                total = total + row.sum(1)
                squares = squares + np.square(row).sum(1)
        mean = np.asarray(total) / count
        variance = np.maximum(np.asarray(squares) / count - mean**2, 0)
        shaped = [v.reshape(1, -1, 1, 1).astype(np.float32) for v in (mean, variance)]
        known |= network.gather(name, *shaped)
    return known


def tiled_exactly(
    network: Staged, x: Input, tiles: Plan, factor: int, finish: Finish = lambda made: made
) -> np.ndarray:
    """The output [3, factor * h, factor * w] of an input [3, h, w] in tiles that all have the whole image's statistics."""
    known = whole_image(network, x, tiles)
    return tiled(lambda part: network.run(part, known), x, tiles, factor, finish)


def _own(found: np.ndarray, tile: Tile, tiles: Plan) -> np.ndarray:
    """The part of a tile's map that no other tile answers for, [c, h, w]; the map may be smaller than the tile."""
    parts: list[slice] = []
    for span, size, cells in zip(
        (tile.rows, tile.columns), (tiles.height, tiles.width), found.shape[2:], strict=True
    ):
        shrink = size / cells
        parts.append(slice(*(round((edge - span.start) / shrink) for edge in (span.first, span.last))))
    return found[0, :, parts[0], parts[1]]
