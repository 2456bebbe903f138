"""Training batches, for every task: their order depends on (seed, epoch) alone, an item on (seed, epoch, index).

So the batches are the same whatever the number of worker processes, and after an interruption.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


@dataclass(frozen=True)
class Batch:
    """`images` float32 [n, 3, h, w], what the network takes, and the task's `targets` for them."""

    images: Tensor
    targets: Tensor

    def to(self, device: str | torch.device) -> Batch:
        return Batch(self.images.to(device), self.targets.to(device))

    def __len__(self) -> int:
        return self.images.shape[0]


class _Order:
    """Batches of (epoch, index) for one epoch and one rank."""

    def __init__(self, count: int, batch: int, seed: int, rank: int, world: int) -> None:
        self.count, self.batch, self.seed, self.rank, self.world = count, batch, seed, rank, world
        self.epoch = 0

    def __len__(self) -> int:
        return max(1, self.count // (self.batch * self.world))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
        needed = len(self) * self.batch * self.world
        if len(order) < needed:  # fewer items than one batch: some come twice
            order = np.resize(order, needed)
        for step in range(len(self)):
            start = (step * self.world + self.rank) * self.batch
            yield [(self.epoch, int(i)) for i in order[start : start + self.batch]]


class KeyedBatches:
    """env.Batches over `count` items; `items[epoch, index]` gives one, `collate` joins those of a batch.

    `items` has no state, so that worker processes need none.
    """

    def __init__(
        self,
        items: Dataset[Any],
        count: int,
        collate: Callable[[list[Any]], Any],
        batch: int,
        seed: int,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._order = _Order(count, batch, seed, rank, world)
        workers = min(workers, _cores())  # more would only wait; the batches are the same
        self._loader = DataLoader(
            items,
            batch_sampler=self._order,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_quiet_worker,
            generator=torch.Generator(),  # leaves torch's global generator alone
        )

    def __len__(self) -> int:
        return len(self._order)

    def epoch(self, index: int) -> Iterator[Any]:
        self._order.epoch = index
        yield from self._loader

    def close(self) -> None:
        iterator = getattr(self._loader, "_iterator", None)
        if iterator is not None and hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quiet_worker(index: int) -> None:
    """One thread per worker process: the training has the cores."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
