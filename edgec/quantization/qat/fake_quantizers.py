"""Fake quantization: what an int8 graph will round, rounded in training; gradients pass straight through.

Activations are unsigned and asymmetric, weights signed and symmetric per output channel, as `placement` stores them.
Ranges start where calibration put them, and are learned, follow a moving average, or stay (Krishnamoorthi 2018,
arXiv 1806.08342). Learned steps are in `learned_step`, palettized weights in `codebook`.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from edgec.core.grid import Grid, Range
from edgec.core.typed_torch import floats
from edgec.quantization.qat.learned_step import quantize_per_channel, quantize_per_tensor
from edgec.quantization.weights.formats import SMALLEST, WeightFormat

MOMENTUM = 0.01  # of a moving average, for each batch
Movement = Literal["learned", "moving_average", "fixed"]  # of ranges, in training


class ActivationQuantizer(nn.Module):
    """Rounds a tensor to 2^bits unsigned levels between `low` <= 0 <= `high`; zero stays exact."""

    def __init__(
        self, key: str, low: float, high: float, bits: int = 8, ranges: Movement = "learned"
    ) -> None:
        super().__init__()
        self.key = key  # of the tensor, as `tensor_keys.keys_of` names it
        grid = Grid.of_range(low, high, bits)
        self.levels = grid.last
        self.ranges = ranges
        self.frozen = False
        self.scale: Tensor
        self.zero: Tensor
        self.register_buffer("scale", torch.tensor([grid.scale]))
        self.register_buffer("zero", torch.tensor([float(grid.zero)]))
        # relative to where they start, so that one learning rate fits ranges of every size
        self.stretch = nn.Parameter(torch.zeros(1), requires_grad=ranges == "learned")
        # what a rectifier gives starts at zero and stays there: it is part of the convolution's kernel
        self.shift = nn.Parameter(torch.zeros(1), requires_grad=ranges == "learned" and low < 0)

    def forward(self, x: Tensor) -> Tensor:
        if self.ranges == "learned":
            scale, zero = self._now()
            return quantize_per_tensor(x, scale, zero, 0, self.levels)
        if self.ranges == "moving_average" and self.training and not self.frozen:
            self._follow(x.detach())
        return torch.fake_quantize_per_tensor_affine(
            x, self.scale[0], self.zero[0].to(torch.int32), 0, self.levels
        )

    def _now(self) -> tuple[Tensor, Tensor]:
        zero = (self.zero + self.levels * self.shift).clamp(0, self.levels)
        return self.scale * self.stretch.exp(), zero

    def _follow(self, x: Tensor) -> None:
        low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
        old_low, old_high = -self.zero * self.scale, (self.levels - self.zero) * self.scale
        low, high = old_low + MOMENTUM * (low - old_low), old_high + MOMENTUM * (high - old_high)
        self.scale.copy_(((high - low) / self.levels).clamp(min=1e-8))
        self.zero.copy_(torch.round(-low / self.scale).clamp(0, self.levels))

    def step(self) -> Tensor:
        """The distance [1] of two levels now."""
        return self._now()[0]

    def freeze(self) -> None:
        """Keep the range in this step: call it after every backward pass. An optimizer leaves out what has no gradient."""
        self.frozen = True
        self.stretch.grad = self.shift.grad = None

    def bounds(self) -> Range:
        """(low, high) of the range now."""
        with torch.no_grad():
            scale, zero = self._now()
            zero = torch.round(zero)
            return float(-zero * scale), float((self.levels - zero) * scale)


class WeightQuantizer(nn.Module):
    """Rounds weights [out, ...] to 2^bits - 1 signed levels, with a step per output channel.

    `learned`: the steps are learned; otherwise the largest magnitude of a channel is the last level.
    """

    def __init__(
        self, layer: str, weight: Tensor, bits: int = 8, learned: bool = False, start: Tensor | None = None
    ) -> None:
        super().__init__()
        self.layer, self.bits = layer, bits
        self.last = 2 ** (bits - 1) - 1
        self.learned = learned
        self.start: Tensor
        self.zeros: Tensor
        self.register_buffer("start", largest(weight) / self.last if start is None else start)
        self.register_buffer("zeros", torch.zeros(len(weight)))
        self.stretch = nn.Parameter(torch.zeros(len(weight)), requires_grad=learned)

    def forward(self, weight: Tensor) -> Tensor:
        if self.learned:
            return quantize_per_channel(weight, self.step(weight), self.zeros, -self.last, self.last)
        zeros = self.zeros.to(torch.int32)
        return torch.fake_quantize_per_channel_affine(
            weight, self.step(weight), zeros, 0, -self.last, self.last
        )

    def step(self, weight: Tensor) -> Tensor:
        """The distance [out] of two levels."""
        return self.start * self.stretch.exp() if self.learned else largest(weight) / self.last

    def format(self, weight: Tensor) -> WeightFormat:
        """How the layer is stored now."""
        steps = tuple(floats(self.step(weight))) if self.learned else None
        return WeightFormat(self.bits, None, steps)


class Steps(Protocol):
    """What knows how far apart the levels of weights are."""

    def step(self, weight: Tensor) -> Tensor: ...


class BiasQuantizer(nn.Module):
    """Rounds a bias [out] to what integers add up: steps of the input's times the weights'."""

    def __init__(self, inputs: ActivationQuantizer, weights: Steps) -> None:
        super().__init__()
        self.parts = [(inputs, weights)]  # in a list, for they are modules of the graph already

    def forward(self, bias: Tensor, weight: Tensor) -> Tensor:
        ((inputs, weights),) = self.parts
        with torch.no_grad():
            step = inputs.step() * weights.step(weight)
            rounding = torch.round(bias / step) * step - bias
        return bias + rounding


def largest(weight: Tensor) -> Tensor:
    """The largest magnitude [out] of each output channel, never zero."""
    return weight.detach().abs().flatten(1).amax(1).clamp(min=SMALLEST)
