"""A network that can be run, whatever runs it: numpy in, numpy out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgec.core.contract.base import Contract
from edgec.core.session import Array


@dataclass(frozen=True)
class Predictor:
    """Numpy in, numpy out: a torch module or an artifact in its runtime, with the contract that says how it is used.

    `run` takes images float32 [n, 3, h, w] and gives the network's outputs, in order.
    `batch` is the batch size that it insists on, or None for any. `name` is for errors.
    """

    run: Callable[[Array], list[Array]]
    contract: Contract
    batch: int | None = None
    name: str = "the network"

    def outputs(self, images: Array) -> list[Array]:
        """The outputs for images [n, 3, h, w], n at most `batch`: a batch that is not full is filled with the last image."""
        missing = (self.batch or len(images)) - len(images)
        if missing <= 0:
            return self.run(images)
        filled = np.concatenate([images, np.repeat(images[-1:], missing, 0)])
        return self.contract.first(self.run(filled), len(images))
