"""Training batches: the order depends on (seed, epoch), each image's augmentation on (seed, epoch, index).

So the batches are the same whatever the number of worker processes, and after an interruption.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from edgec.recipe import Augment
from edgec.tasks.detection.augment import augment
from edgec.tasks.detection.batch import Batch, Prepared, collate
from edgec.tasks.detection.images import fit_image
from edgec.tasks.detection.samples import Sample

CACHE_BYTES = 1 << 30  # fitted images kept in memory


@dataclass
class Fitted:
    """Samples fitted to the network input; read once where memory allows."""

    samples: list[Sample]
    size: tuple[int, int]
    fit: str

    def __post_init__(self) -> None:
        self._cache: dict[int, Prepared] = {}
        self._room = CACHE_BYTES // (self.size[0] * self.size[1] * 3)

    def __len__(self) -> int:
        return len(self.samples)

    def __call__(self, index: int) -> Prepared:
        """Image uint8 [h, w, 3], boxes [n, 4], labels [n] in pixels of the input; difficult objects are left out."""
        found = self._cache.get(index)
        if found is None:
            sample = self.samples[index]
            image, mapping = fit_image(sample.read(), self.size, self.fit)
            easy = ~sample.difficult
            found = image, mapping.to_input(sample.boxes[easy]).astype(np.float32), sample.labels[easy]
            if len(self._cache) < self._room:
                self._cache[index] = found
        return found


class _Augmented(Dataset[Prepared]):
    """Items are (epoch, index) pairs, so that worker processes need no state."""

    def __init__(self, fitted: Fitted, config: Augment, seed: int, epochs: int) -> None:
        self.fitted, self.config, self.seed, self.epochs = fitted, config, seed, epochs

    def __getitem__(self, item: Any) -> Prepared:
        epoch, index = item
        rng = np.random.default_rng((self.seed, epoch, index))
        mosaic = epoch < self.epochs - self.config.mosaic_off_epochs
        return augment(self.fitted, index, len(self.fitted), self.fitted.size, self.config, mosaic, rng)


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
        if len(order) < needed:  # fewer images than one batch: some come twice
            order = np.resize(order, needed)
        for step in range(len(self)):
            start = (step * self.world + self.rank) * self.batch
            yield [(self.epoch, int(i)) for i in order[start : start + self.batch]]


class DetectionBatches:
    """env.Batches over a training split."""

    def __init__(
        self,
        fitted: Fitted,
        config: Augment,
        batch: int,
        epochs: int,
        seed: int,
        workers: int,
        rank: int,
        world: int,
    ) -> None:
        self._order = _Order(len(fitted), batch, seed, rank, world)
        workers = min(workers, _cores())  # more would only wait; the batches are the same
        self._loader = DataLoader(
            _Augmented(fitted, config, seed, epochs),
            batch_sampler=self._order,  # type: ignore[arg-type]
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_quiet_worker,
            generator=torch.Generator(),  # leaves torch's global generator alone
        )

    def __len__(self) -> int:
        return len(self._order)

    def epoch(self, index: int) -> Iterator[Batch]:
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
    """One thread a worker process: the training has the cores."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
