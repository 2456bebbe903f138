"""Learning-rate and weight schedules, as functions of where a training stands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Position:
    """Where a training stands. `step` counts from 0 over the whole stage."""

    epoch: int
    epochs: int
    step: int
    steps: int

    @property
    def fraction(self) -> float:
        """Share of the training that is done, 0..1."""
        return self.step / max(1, self.steps)


def learning_rate(at: Position, lr: float, final_lr: float, warmup_epochs: float) -> float:
    """Linear warm-up from a tenth, then a cosine down to `final_lr` * lr."""
    warmup = min(warmup_epochs * at.steps / max(1, at.epochs), 0.5 * at.steps)
    if at.step < warmup:
        return lr * (0.1 + 0.9 * min(1.0, (at.step + 1) / warmup))
    share = (at.step - warmup) / max(1.0, at.steps - warmup)
    return lr * (final_lr + (1 - final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


Ramp = Literal["constant", "linear_down", "cosine_down", "linear_up"]


def ramp(kind: Ramp, fraction: float) -> float:
    """The factor of a loss term's weight, 0..1, at a fraction 0..1 of the training."""
    match kind:
        case "constant":
            return 1.0
        case "linear_down":
            return 1 - fraction
        case "cosine_down":
            return 0.5 * (1 + math.cos(math.pi * fraction))
        case "linear_up":
            return fraction
