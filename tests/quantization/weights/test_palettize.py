"""The codebook artifact: the same outputs from half the bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from edgec.onnx.graph import convolutions, initializers
from edgec.quantization.integer_check import fusion
from edgec.quantization.qdq_graph import insert_pairs
from edgec.quantization.weights.codebook import first_centroids
from edgec.quantization.weights.compact import compact
from edgec.quantization.weights.formats import UNIT, WeightFormat
from edgec.quantization.weights.palettize import palettized

Run = Callable[..., list[np.ndarray]]


@pytest.fixture(scope="module")
def four_bits(tiny: Any) -> Any:
    stored = initializers(tiny.model)
    formats = {}
    for layer, node in convolutions(tiny.model).items():
        points = first_centroids(torch.from_numpy(stored[node.input[1]].copy()), 16, "kmeans")
        formats[layer] = WeightFormat(4, tuple(round(float(p) * UNIT) for p in points))
    return insert_pairs(tiny.model, tiny.ranges, formats=formats)


def test_codebooks_give_the_same_outputs_at_the_same_kernels(four_bits: Any, tiny: Any, run: Run) -> None:
    small = palettized(four_bits)
    for optimize in (True, False):
        for a, b in zip(
            run(four_bits, tiny.images, optimize), run(small, tiny.images, optimize), strict=True
        ):
            assert np.array_equal(a, b)
    assert fusion(small, ()).integer == fusion(four_bits, ()).integer == 24


def test_half_the_bytes(four_bits: Any) -> None:
    assert compact(palettized(four_bits)).ByteSize() < 0.56 * compact(four_bits).ByteSize()


def test_weights_of_eight_bits_stay(tiny: Any) -> None:
    whole = insert_pairs(tiny.model, tiny.ranges)
    kinds = Counter(n.op_type for n in palettized(whole).graph.node)
    assert kinds["Gather"] == Counter(n.op_type for n in whole.graph.node)["Gather"] == 0


def test_an_odd_number_of_indices(exported: Callable[..., Any], run: Run) -> None:
    torch.manual_seed(0)
    made = exported(torch.nn.Sequential(torch.nn.Conv2d(3, 33, 3, padding=1), torch.nn.Conv2d(33, 1, 3)))
    forms = {n: WeightFormat(2, (-127, -20, 30, 127)) for n in ("0", "1")}
    whole = insert_pairs(made.model, made.ranges, formats=forms)
    assert np.array_equal(run(palettized(whole), made.images)[0], run(whole, made.images)[0])
