"""Weights in buckets: stretches of a layer's weights, each rounded to even levels between its least and its largest weight.

This is the scaling of quantized distillation (Polino, Pascanu and Alistarh 2018, arXiv 1802.05668, section 2.1; buckets
of 256 there). Gradients pass straight through. Integer convolutions cannot run it, since a bucket is no output channel: the
weights are rebuilt when a graph is loaded, and the layer computes in float.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgec.quantization.formats import SMALLEST, WeightFormat


def levels_of(
    weight: np.ndarray, bits: int, bucket: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Levels int8 [buckets, bucket] from -2^(bits-1) on, and what a level is worth: step, offset float32 [buckets, 1].

    The last bucket is filled up with its last weight.
    """
    flat = weight.astype(np.float32).reshape(-1)
    bucket = min(bucket, flat.size)
    rows = np.pad(flat, (0, -flat.size % bucket), mode="edge").reshape(-1, bucket)
    low, high = rows.min(1, keepdims=True), rows.max(1, keepdims=True)
    step = np.maximum((high - low) / np.float32(2**bits - 1), np.float32(SMALLEST)).astype(np.float32)
    first = -(2 ** (bits - 1))
    levels = np.clip(np.round((rows - low) / step), 0, 2**bits - 1) + first
    return levels.astype(np.int8), step, (low - first * step).astype(np.float32)


class BucketQuantizer(nn.Module):
    """Rounds weights [out, ...] in buckets, straight through."""

    def __init__(self, layer: str, bits: int, bucket: int) -> None:
        super().__init__()
        self.layer, self.bits, self.bucket = layer, bits, bucket

    def forward(self, weight: Tensor) -> Tensor:
        with torch.no_grad():
            flat = weight.detach().flatten()
            bucket = min(self.bucket, len(flat))
            rows = F.pad(flat[None, None], (0, -len(flat) % bucket), mode="replicate").view(-1, bucket)
            low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
            step = ((high - low) / (2**self.bits - 1)).clamp(min=SMALLEST)
            rounded = torch.round((rows - low) / step) * step + low
            error = rounded.flatten()[: len(flat)].view_as(weight) - weight.detach()
        return weight + error

    def format(self, weight: Tensor) -> WeightFormat:
        """How the layer is stored: nothing of it is learned."""
        return WeightFormat(self.bits, bucket=self.bucket)
