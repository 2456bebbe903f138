"""Points: where they start, what moves them, how many a layer gets, and how short they can be written."""

from __future__ import annotations

import heapq
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.quantization.qat.fake_quantizers import largest
from edgec.quantization.weights.codebook import (
    CodebookQuantizer,
    Start,
    first_centroids,
    huffman_bits,
    share_bits,
)
from edgec.quantization.weights.formats import UNIT


def weights(seed: int = 0) -> torch.Tensor:
    return torch.randn(8, 6, 3, 3, generator=torch.Generator().manual_seed(seed))


def error(weight: torch.Tensor, points: torch.Tensor) -> float:
    made = CodebookQuantizer("layer", 4, points)(weight).detach()
    return float((made - weight).square().mean())


def test_k_means_errs_least() -> None:
    weight = weights()
    by = {start: error(weight, first_centroids(weight, 16, start)) for start in get_args(Start)}
    assert by["kmeans"] < by["quantiles"]
    assert by["kmeans"] < by["uniform"]


@pytest.mark.parametrize("count", [4, 8, 16])
def test_k_means_stands_still_at_the_means_of_its_clusters(count: int) -> None:
    weight = weights(1)
    points = first_centroids(weight, count, "kmeans").numpy()
    values = (weight / largest(weight).view(-1, 1, 1, 1)).flatten().numpy()
    cluster = np.abs(values[:, None] - points[None]).argmin(1)
    for index in range(count):
        assert points[index] == pytest.approx(values[cluster == index].mean(), abs=2e-3)


def test_a_point_gets_the_gradients_of_its_weights() -> None:
    """Polino et al., section 3.1: their sum, each times its bucket's scale."""
    weight = torch.tensor([[0.9, -1.0, 0.1], [2.0, -0.1, 1.9]])
    quantizer = CodebookQuantizer("layer", 2, torch.tensor([-1.0, 0.0, 1.0]))
    gradient = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    (quantizer(weight) * gradient).sum().backward()
    assert quantizer.centroids.grad is not None
    # scales 1 and 2; weights -1.0 | 0.1, -0.1 | 0.9, 2.0, 1.9
    assert quantizer.centroids.grad.tolist() == [2.0, 3 + 2 * 5, 1 + 2 * 4 + 2 * 6]


def test_weights_get_their_gradients_straight_through() -> None:
    weight = weights().requires_grad_()
    CodebookQuantizer("layer", 4, first_centroids(weight, 16, "kmeans"))(weight).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.ones_like(weight))


def test_what_is_trained_is_what_is_stored() -> None:
    weight = weights()
    quantizer = CodebookQuantizer("layer", 4, first_centroids(weight, 16, "kmeans"))
    form = quantizer.format(weight)
    assert form.centroids is not None
    assert len(form.centroids) == 16
    scale = form.scale(weight.numpy())
    stored = form.integers(weight.numpy(), scale)
    assert stored.dtype == np.int8
    assert set(np.unique(stored)) <= set(form.centroids)
    expected = quantizer(weight).detach().numpy()
    far = np.abs(stored * scale.reshape(-1, 1, 1, 1) - expected) > 1e-5
    assert far.mean() < 0.005  # weights in the middle of two points


def test_points_are_sorted_again_and_stay_in_reach() -> None:
    quantizer = CodebookQuantizer("layer", 2, torch.tensor([0.5, -2.0, 0.1, 1.5]))
    found = (quantizer.rounded() * UNIT).tolist()
    assert found == pytest.approx([-127, round(0.1 * UNIT), round(0.5 * UNIT), 127], abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.tuples(st.integers(1, 9000), st.floats(0, 10)), min_size=1),
    st.floats(2, 4),
)  # fmt: skip
def test_the_budget_is_kept(layers: dict[str, tuple[int, float]], average: float) -> None:
    sizes = {name: size for name, (size, _) in layers.items()}
    bits = share_bits(sizes, {name: gradient for name, (_, gradient) in layers.items()}, average)
    assert set(bits) == set(sizes)
    assert set(bits.values()) <= {2, 3, 4}
    assert sum(bits[n] * sizes[n] for n in sizes) <= average * sum(sizes.values()) + 1e-6


def test_layers_on_which_the_loss_leans_get_more() -> None:
    sizes = dict.fromkeys("abc", 100)
    assert share_bits(sizes, {"a": 9.0, "b": 0.1, "c": 0.1}, 8 / 3) == {"a": 4, "b": 2, "c": 2}
    assert share_bits(sizes, {"a": 1.0, "b": 1.0, "c": 1.0}, 4) == dict.fromkeys("abc", 4)


def code_lengths(counts: list[int]) -> int:
    """Huffman's tree built out, the depths of its leaves counted."""
    heap: list[tuple[int, int, tuple[int, ...]]] = [
        (count, index, (index,)) for index, count in enumerate(counts)
    ]
    depth = [0] * len(counts)
    heapq.heapify(heap)
    while len(heap) > 1:
        a, b = heapq.heappop(heap), heapq.heappop(heap)
        for leaf in (*a[2], *b[2]):
            depth[leaf] += 1
        heapq.heappush(heap, (a[0] + b[0], min(a[1], b[1]), (*a[2], *b[2])))
    return sum(d * c for d, c in zip(depth, counts, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=12))
def test_huffman_bits(counts: list[int]) -> None:
    symbols = np.repeat(np.arange(len(counts)), counts)
    assert huffman_bits(symbols) == code_lengths(counts)


def test_one_symbol_takes_a_bit_each() -> None:
    assert huffman_bits(np.zeros(5)) == 5
