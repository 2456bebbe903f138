"""Using a super-resolution network by its contract alone: image in, larger image out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.core.contract.superres import SuperresContract
from edgec.core.predictor import Predictor
from edgec.core.session import Array
from edgec.images.bicubic import bicubic_up
from edgec.tiles.crops import Plan, plan, tiled

REACH = 3  # pixels that bicubic enlarging looks to each side, and one


def prepare(low: Array, contract: SuperresContract) -> Array:
    """A low-resolution image uint8 [h, w, 3] as the network takes it, float32 [3, h, w]."""
    return as_input(low, contract.grown, contract.input.scale)


def as_input(low: Array, grown: int, scale: float) -> Array:
    """An image uint8 [h, w, 3] as the network takes it: enlarged `grown` times, float32 [3, h, w], levels times `scale`."""
    return scaled(low if grown == 1 else bicubic_up(np.ascontiguousarray(low), grown), scale)


def scaled(image: Array, scale: float) -> Array:
    """An image uint8 [h, w, 3] of the input's size as float32 [3, h, w]."""
    return np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) * np.float32(scale)


class Prepared:
    """A low-resolution image uint8 [h, w, 3] as the network takes it, made where it is cut: `x[:, rows, columns]`.

    The same numbers as `prepare` gives, without an array of the whole in float; mirrored at the bottom and the right, so
    that sides are multiples of the contract's and not under those of a fixed size.
    """

    def __init__(self, low: Array, contract: SuperresContract) -> None:
        self.low, self.contract = low, contract
        self.grown = contract.grown
        self.size = (low.shape[0] * self.grown, low.shape[1] * self.grown)  # without what is mirrored
        fixed = (0, 0) if contract.dynamic_size else contract.input.size
        multiple = contract.multiple
        height, width = (max(-(-s // multiple) * multiple, f) for s, f in zip(self.size, fixed, strict=True))
        self.shape = (3, height, width)

    def __getitem__(self, part: tuple[slice, slice, slice]) -> Array:
        places: list[Array] = []
        around: list[slice] = []
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
        return scaled(low[places[0][:, None], places[1]], self.contract.input.scale)


def as_bytes(output: Array, contract: SuperresContract) -> Array:
    """An output float32 [3, h, w] as uint8 [3, h, w]: clipped, rounded."""
    return np.clip(np.round(output / np.float32(contract.input.scale)), 0, 255).astype(np.uint8)


def upscaled(predictor: Predictor, low: Array, tile: tuple[int, int] | None = None) -> Array:
    """The high-resolution image uint8 [., ., 3] of a low-resolution one uint8 [h, w, 3].

    Whole, or in the tiles of `tiles_of`. Raises RecipeError for an artifact of another task.
    """
    contract = SuperresContract.of(predictor.contract, predictor.name)
    x = Prepared(low, contract)

    def run(part: Array) -> Array:
        return predictor.outputs(part)[0]

    factor = contract.factor
    output = tiled(run, x, tiles_of(x, tile), factor, lambda y: as_bytes(y, contract))
    height, width = (side * factor for side in x.size)
    return np.ascontiguousarray(output[:, :height, :width].transpose(1, 2, 0))


def tiles_of(x: Prepared, tile: tuple[int, int] | None = None) -> Plan:
    """The tiles of an input: of a height and width in pixels, or the whole as one; of a fixed size, where it is fixed.

    They overlap by what the network sees, or by a quarter of a tile.
    """
    contract = x.contract
    size = (tile or x.shape[1:]) if contract.dynamic_size else contract.input.size
    overlap = overlap_within(size, contract.radius, contract.multiple)
    return plan(x.shape[1], x.shape[2], size, overlap, contract.multiple)


def overlap_within(tile: Sequence[int], radius: int, multiple: int) -> int:
    """An overlap of `radius` pixels, on the network's grid, or of a quarter of a tile where that is less."""
    return min(-(-radius // multiple), min(tile) // 4 // multiple) * multiple
