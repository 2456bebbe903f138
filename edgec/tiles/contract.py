"""Using a super-resolution network by its contract alone: image in, larger image out."""

from __future__ import annotations

from collections.abc import Mapping as Contract
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgec.core.predictor import Predictor
from edgec.images.bicubic import bicubic_up
from edgec.tiles.crops import Plan, plan, tiled

REACH = 3  # pixels that bicubic enlarging looks to each side, and one


def prepare(low: np.ndarray, contract: Contract[str, Any]) -> np.ndarray:
    """A low-resolution image uint8 [h, w, 3] as the network takes it: float32 [3, h, w]; enlarged if it wants so."""
    if contract["enlarged"]:
        low = bicubic_up(np.ascontiguousarray(low), contract["scale"])
    return np.ascontiguousarray(low.transpose(2, 0, 1), np.float32) * np.float32(contract["input"]["scale"])


class Prepared:
    """A low-resolution image uint8 [h, w, 3] as the network takes it, made where it is cut: `x[:, rows, columns]`.

    The same numbers as `prepare(low, contract)`, without an array of the whole in float; mirrored at the bottom and the
    right, so that sides are multiples of the contract's and not under those of a fixed size.
    """

    def __init__(self, low: np.ndarray, contract: Contract[str, Any]) -> None:
        self.low, self.contract = low, contract
        self.grown: int = contract["scale"] if contract["enlarged"] else 1
        self.size = (low.shape[0] * self.grown, low.shape[1] * self.grown)  # without what is mirrored
        fixed = (0, 0) if contract["dynamic_size"] else contract["input"]["shape"][2:]
        multiple: int = contract["multiple"]
        height, width = (max(-(-s // multiple) * multiple, f) for s, f in zip(self.size, fixed, strict=True))
        self.shape = (3, height, width)

    def __getitem__(self, part: tuple[slice, slice, slice]) -> np.ndarray:
        places, around = [], []
        for cut, side in zip(part[1:], self.size, strict=True):
            place = np.arange(*cut.indices(2**31))
            place = np.minimum(place % (2 * side), 2 * side - 1 - place % (2 * side))  # mirrored
            # what bicubic reads is at most REACH away, and the cut must not start within an original pixel
            first = max(0, int(place.min()) // self.grown - REACH)
            around.append(slice(first, int(place.max()) // self.grown + 1 + REACH))
            places.append(place - first * self.grown)
        low = self.low[around[0], around[1]]
        if self.grown > 1:
            low = bicubic_up(np.ascontiguousarray(low), self.grown)
        low = low[places[0][:, None], places[1]]
        return np.ascontiguousarray(low.transpose(2, 0, 1), np.float32) * np.float32(
            self.contract["input"]["scale"]
        )


def as_bytes(output: np.ndarray, contract: Contract[str, Any]) -> np.ndarray:
    """An output float32 [3, h, w] as uint8 [3, h, w]: clipped, rounded."""
    return np.clip(np.round(output / np.float32(contract["input"]["scale"])), 0, 255).astype(np.uint8)


def upscaled(predictor: Predictor, low: np.ndarray, tile: tuple[int, int] | None = None) -> np.ndarray:
    """The high-resolution image uint8 [., ., 3] of a low-resolution one uint8 [h, w, 3].

    Whole, or in the tiles of `tiles_of`.
    """
    contract = predictor.contract
    x = Prepared(low, contract)

    def run(part: np.ndarray) -> np.ndarray:
        return predictor.run(np.repeat(part, predictor.batch or 1, axis=0))[0]

    factor = contract["factor"]
    made = tiled(run, x, tiles_of(x, tile), factor, lambda y: as_bytes(y, contract))
    height, width = (side * factor for side in x.size)
    return np.ascontiguousarray(made[:, :height, :width].transpose(1, 2, 0))


def tiles_of(x: Prepared, tile: tuple[int, int] | None = None) -> Plan:
    """The tiles of an input: of a height and width in pixels, or the whole as one; of a fixed size, where it is fixed.

    They overlap by what the network sees, or by a quarter of a tile.
    """
    contract = x.contract
    fixed = None if contract["dynamic_size"] else tuple(contract["input"]["shape"][2:])
    size = fixed or tile or x.shape[1:]
    overlap = overlap_within(size, contract["radius"], contract["multiple"])
    return plan(x.shape[1], x.shape[2], size, overlap, contract["multiple"])


def overlap_within(tile: Sequence[int], radius: int, multiple: int) -> int:
    """An overlap of `radius` pixels, on the network's grid, or of a quarter of a tile where that is less."""
    return min(-(-radius // multiple), min(tile) // 4 // multiple) * multiple
