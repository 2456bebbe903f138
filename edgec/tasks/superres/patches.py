"""Training batches for super-resolution: random patches, each drawn by (seed, epoch, index), flipped and turned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from edgec.recipe import ImagesBase
from edgec.tasks.batches import Batch, KeyedBatches
from edgec.tasks.superres.pairs import Pair

CACHE_BYTES = 1 << 30  # images kept in memory

Patch = tuple[np.ndarray, np.ndarray]  # low, high: uint8 [h, w, 3]


class OpenedPairs:
    """The images of pairs; read once where memory allows."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs
        self._cache: dict[int, Patch] = {}
        self._room = CACHE_BYTES

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Patch:
        """(low, high) of a pair."""
        cached = self._cache.get(index)
        if cached is None:
            cached = self.pairs[index].read()
            size = cached[0].nbytes + cached[1].nbytes
            if size <= self._room:
                self._room -= size
                self._cache[index] = cached
        return cached


class _Patches(Dataset[Patch]):
    """Items are (epoch, index) pairs; index // data.patches is the image."""

    def __init__(self, opened: OpenedPairs, data: ImagesBase, seed: int) -> None:
        self.opened, self.data, self.seed = opened, data, seed

    def __getitem__(self, item: Any) -> Patch:
        epoch, index = item
        rng = np.random.default_rng((self.seed, epoch, index))
        low, high = self.opened[index // self.data.patches]
        low, high = cut(low, high, self.data.patch, self.data.scale, rng)
        return turned(low, high, rng) if self.data.flip else (low, high)


def cut(low: np.ndarray, high: np.ndarray, side: int, scale: int, rng: np.random.Generator) -> Patch:
    """A patch of `side` low-resolution pixels and its partner, at random; smaller images are mirrored at the edge."""
    low, high = mirrored(low, side, side), mirrored(high, side * scale, side * scale)
    top, left = (int(rng.integers(int(have) - side + 1)) for have in low.shape[:2])
    return (
        low[top : top + side, left : left + side],
        high[top * scale : (top + side) * scale, left * scale : (left + side) * scale],
    )


def mirrored(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image [h, w, 3], mirrored at the bottom and the right where it is under `height` x `width`."""
    missing = max(0, height - image.shape[0]), max(0, width - image.shape[1])
    if not any(missing):
        return image
    return np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")


def turned(low: np.ndarray, high: np.ndarray, rng: np.random.Generator) -> Patch:
    """Both patches under one of the eight symmetries of the square, at random."""
    quarter_turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    pair = [np.rot90(image, quarter_turns) for image in (low, high)]
    low, high = ([image[:, ::-1] for image in pair] if mirror else pair)[:2]
    return low, high


def superres_batches(
    opened: OpenedPairs,
    data: ImagesBase,
    prepare: Callable[[np.ndarray], np.ndarray],
    batch: int,
    seed: int,
    workers: int,
    rank: int,
    world: int,
) -> KeyedBatches:
    """The training batches of a split: `data.patches` patches of each image per epoch.

    `prepare` makes the network's input float32 [3, h, w] of a patch uint8 [h, w, 3].
    Targets are [n, 3, scale * h, scale * w]; RGB in 0..peak, as the images.
    """

    def collate(items: list[Patch]) -> Batch:
        images = torch.as_tensor(np.stack([prepare(low) for low, _ in items]))
        targets = torch.as_tensor(np.stack([high.transpose(2, 0, 1) for _, high in items]).astype(np.float32))
        return Batch(images.contiguous(memory_format=torch.channels_last), targets * (data.peak / 255))

    items = _Patches(opened, data, seed)
    return KeyedBatches(items, len(opened) * data.patches, collate, batch, seed, workers, rank, world)
