"""Training batches of a detector: fitted images, augmented by (seed, epoch, index)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from edgec.core.contract.detection import Fit
from edgec.recipe import Augment
from edgec.tasks.batches import KeyedBatches
from edgec.tasks.detection.augment import augment
from edgec.tasks.detection.batch import Prepared, collate
from edgec.tasks.detection.images import PAD_VALUE, fit_image
from edgec.tasks.detection.samples import Sample

CACHE_BYTES = 1 << 30  # fitted images kept in memory


@dataclass
class Fitted:
    """Samples fitted to a network input of `size` (height, width); read once where memory allows."""

    samples: list[Sample]
    size: tuple[int, int]
    fit: Fit
    pad_value: int = PAD_VALUE

    def __post_init__(self) -> None:
        self._cache: dict[int, Prepared] = {}
        self._room = CACHE_BYTES // (self.size[0] * self.size[1] * 3)

    def __len__(self) -> int:
        return len(self.samples)

    def __call__(self, index: int) -> Prepared:
        """Image uint8 [h, w, 3], boxes [n, 4], labels [n] in pixels of the input; difficult objects are left out."""
        prepared = self._cache.get(index)
        if prepared is None:
            sample = self.samples[index]
            image, placement = fit_image(sample.read(), self.size, self.fit, self.pad_value)
            easy = ~sample.difficult
            prepared = image, placement.to_input(sample.boxes[easy]).astype(np.float32), sample.labels[easy]
            if len(self._cache) < self._room:
                self._cache[index] = prepared
        return prepared


class _Augmented(Dataset[Prepared]):
    """Items are (epoch, index) pairs, so that worker processes need no state."""

    def __init__(self, fitted: Fitted, config: Augment, seed: int, epochs: int) -> None:
        self.fitted, self.config, self.seed, self.epochs = fitted, config, seed, epochs

    def __getitem__(self, item: Any) -> Prepared:
        epoch, index = item
        rng = np.random.default_rng((self.seed, epoch, index))
        mosaic = epoch < self.epochs - self.config.mosaic_off_epochs
        return augment(self.fitted, index, len(self.fitted), self.fitted.size, self.config, mosaic, rng)


def detection_batches(
    fitted: Fitted, config: Augment, batch: int, epochs: int, seed: int, workers: int, rank: int, world: int
) -> KeyedBatches:
    """The training batches of a split."""
    items = _Augmented(fitted, config, seed, epochs)
    return KeyedBatches(items, len(fitted), collate, batch, seed, workers, rank, world)
