"""Palettized weights: each is one of a few centroids of its layer, which are learned (differentiable quantization).

Polino, Pascanu and Alistarh (2018, arXiv 1802.05668), section 3: every weight, divided by its bucket's scale, takes the
nearest centroid; a centroid's gradient is the sum of those of its weights. A bucket is an output channel here, and centroids
are multiples of 1/127, so that integer convolutions can run them. Weights may train along: gradients pass straight through.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from edgec.quantization.qat.fake_quantizers import largest
from edgec.quantization.weights.formats import UNIT, WeightFormat

BITS = (2, 3, 4)
ROUNDS = 50  # of Lloyd's algorithm at most
Start = Literal["uniform", "quantiles", "kmeans"]


def first_centroids(weight: Tensor, count: int, start: Start) -> Tensor:
    """Sorted centroids [count] in -1..1 for weights [out, ...], each relative to its channel's largest magnitude."""
    if start == "uniform":
        return torch.linspace(-1, 1, count)
    flat = weight.detach() / largest(weight).view(-1, *[1] * (weight.ndim - 1))
    values = np.sort(flat.flatten().double().cpu().numpy())
    centroids = np.quantile(values, (np.arange(count) + 0.5) / count)
    if start == "kmeans":
        sums = np.concatenate([[0.0], np.cumsum(values)])
        for _ in range(ROUNDS):  # in one dimension a cluster is a stretch of the sorted values
            edges = np.searchsorted(values, (centroids[1:] + centroids[:-1]) / 2)
            edges = np.concatenate([[0], edges, [len(values)]])
            counts = np.diff(edges)
            moved = np.where(counts > 0, np.diff(sums[edges]) / np.maximum(counts, 1), centroids)
            if np.allclose(moved, centroids, atol=1e-7):
                break
            centroids = moved
    return torch.as_tensor(np.sort(centroids)).float()


class CodebookQuantizer(nn.Module):
    """Puts weights [out, ...] on the nearest of a layer's centroids."""

    def __init__(self, layer: str, bits: int, centroids: Tensor, learned: bool = True) -> None:
        super().__init__()
        self.layer, self.bits = layer, bits
        self.centroids = nn.Parameter(centroids.clone(), requires_grad=learned)

    def forward(self, weight: Tensor) -> Tensor:
        scale = largest(weight).view(-1, *[1] * (weight.ndim - 1))
        centroids = self.rounded()
        nearest = _nearest((weight.detach() / scale).contiguous(), centroids.detach())
        return scale * centroids[nearest] + (weight - weight.detach())

    def step(self, weight: Tensor) -> Tensor:
        """What a unit of the centroids is worth [out]."""
        return largest(weight) / UNIT

    def rounded(self) -> Tensor:
        """The centroids, sorted, as multiples of 1/127; gradients pass."""
        centroids = self.centroids.sort().values.clamp(-1, 1)
        return centroids + (torch.round(centroids.detach() * UNIT) / UNIT - centroids.detach())

    def format(self, weight: Tensor) -> WeightFormat:
        """How the layer is stored now."""
        return WeightFormat(self.bits, tuple(round(float(p) * UNIT) for p in self.rounded().detach()))


def _nearest(values: Tensor, centroids: Tensor) -> Tensor:
    return torch.bucketize(values, (centroids[1:] + centroids[:-1]) / 2)


def share_bits(
    sizes: Mapping[str, int], gradients: Mapping[str, float], average_bits: float, choices: Sequence[int] = BITS
) -> dict[str, int]:  # fmt: skip
    """Bits of each layer under a budget: where the loss leans more on a layer's weights, it gets more centroids.

    `sizes`: weights of a layer; `gradients`: root mean square of a weight's gradient there (Polino et al., section 3.2).
    All start with the fewest bits; the layer with the largest gradient times step is raised while the budget holds.
    """
    steps = sorted(choices)
    bits = dict.fromkeys(sizes, steps[0])
    left = average_bits * sum(sizes.values()) - sum(steps[0] * n for n in sizes.values())
    heap = [(-gradients[name] / 2 ** steps[0], name) for name in sizes]
    heapq.heapify(heap)
    while heap:
        _, name = heapq.heappop(heap)
        at = steps.index(bits[name])
        if at + 1 == len(steps):
            continue
        cost = (steps[at + 1] - steps[at]) * sizes[name]
        if cost > left:
            continue
        left -= cost
        bits[name] = steps[at + 1]
        heapq.heappush(heap, (-gradients[name] / 2 ** bits[name], name))
    return bits


def huffman_bits(symbols: np.ndarray) -> int:
    """Bits of an array in the best prefix code for its symbols (Huffman 1952), without the code table."""
    counts = list(Counter(symbols.reshape(-1).tolist()).values())
    if len(counts) < 2:
        return sum(counts)
    heapq.heapify(counts)
    total = 0
    while len(counts) > 1:
        joined = heapq.heappop(counts) + heapq.heappop(counts)
        total += joined
        heapq.heappush(counts, joined)
    return total
