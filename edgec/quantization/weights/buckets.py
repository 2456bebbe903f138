"""Weights in buckets: stretches of a layer's weights, each rounded to even levels between its least and its largest weight.

This is the scaling of quantized distillation (Polino, Pascanu and Alistarh 2018, arXiv 1802.05668, section 2.1; buckets
of 256 there). Gradients pass straight through. Integer convolutions cannot run it, since a bucket is no output channel: the
weights are dequantized when a graph is loaded, and the layer computes in float.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgec.quantization.weights.formats import SMALLEST, WeightFormat


def levels_of(weight: np.ndarray, bits: int, bucket: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levels int8 [buckets, bucket] from -2^(bits-1) on, and what a level is worth: step, offset float32 [buckets, 1].

    The last bucket is filled up with its last weight.
    """
    levels, step, low = _leveled(torch.as_tensor(weight.astype(np.float32)), bits, bucket)
    first = -(2 ** (bits - 1))
    return (levels + first).numpy().astype(np.int8), step.numpy(), (low - first * step).numpy()


def _leveled(weight: Tensor, bits: int, bucket: int) -> tuple[Tensor, Tensor, Tensor]:
    """Levels from 0 on [buckets, bucket], and step and least weight [buckets, 1]."""
    flat = weight.flatten()
    bucket = min(bucket, len(flat))
    rows = F.pad(flat[None, None], (0, -len(flat) % bucket), mode="replicate").view(-1, bucket)
    low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    step = ((high - low) / (2**bits - 1)).clamp(min=SMALLEST)
    return torch.round((rows - low) / step).clamp(0, 2**bits - 1), step, low


class BucketQuantizer(nn.Module):
    """Rounds weights [out, ...] in buckets, straight through."""

    def __init__(self, layer: str, bits: int, bucket: int) -> None:
        super().__init__()
        self.layer, self.bits, self.bucket = layer, bits, bucket

    def forward(self, weight: Tensor) -> Tensor:
        with torch.no_grad():
            levels, step, low = _leveled(weight, self.bits, self.bucket)
            error = (levels * step + low).flatten()[: weight.numel()].view_as(weight) - weight
        return weight + error

    def format(self, weight: Tensor) -> WeightFormat:
        """How the layer is stored: nothing of it is learned."""
        return WeightFormat(self.bits, bucket=self.bucket)
