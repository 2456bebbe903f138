"""A graph in fewer bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgec.quantization.integer_check import fusion
from edgec.quantization.qdq_graph import insert_pairs
from edgec.quantization.weights.compact import compact

Run = Callable[..., list[np.ndarray]]


def test_compact_is_the_same_graph_with_the_layers_names(tiny: Any, run: Run) -> None:
    whole = insert_pairs(tiny.model, tiny.ranges)
    small = compact(whole)
    assert small.ByteSize() < whole.ByteSize() - 10_000
    for a, b in zip(run(whole, tiny.images), run(small, tiny.images), strict=True):
        assert np.array_equal(a, b)
    assert [v.name for v in (*small.graph.input, *small.graph.output)] == ["images", "head0", "head1"]
    weights = [n.input[1] for n in small.graph.node if n.op_type == "Conv"]
    assert weights == [n.input[1] for n in whole.graph.node if n.op_type == "Conv"]
    assert fusion(small, ()).integer == 24
