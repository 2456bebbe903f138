"""Exponential moving average of weights and batch-norm statistics."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Ema:
    """ema = d * ema + (1 - d) * value, with d = min(decay, (1 + updates) / (10 + updates)) so that a start is forgotten."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._live = net.state_dict()  # references: they follow the training
        self.average: dict[str, Tensor] = {n: t.detach().clone() for n, t in self._live.items()}
        self._names = [n for n, t in self._live.items() if t.is_floating_point()]
        self._copied = [n for n in self._live if n not in set(self._names)]

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch.ops.aten._foreach_lerp_(
            [self.average[n] for n in self._names], [self._live[n] for n in self._names], 1 - decay
        )
        for name in self._copied:
            self.average[name].copy_(self._live[name])

    def load(self, average: Mapping[str, Tensor], updates: int) -> None:
        self.updates = updates
        with torch.no_grad():
            for name, tensor in self.average.items():
                tensor.copy_(average[name])
