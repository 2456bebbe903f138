"""Which operators make one artifact slower than another."""

from __future__ import annotations

import pytest

from edgec.bench.operators import extra_times, layer_name
from edgec.core.results.profile import OperatorTime
from edgec.devices.probe_answer import OperatorsAnswer


def answer(rows: list[tuple[str, str, float]]) -> OperatorsAnswer:
    types: dict[str, float] = {}
    for _, kind, ms in rows:
        types[kind] = types.get(kind, 0.0) + ms
    operators = tuple(OperatorTime(name=n, type=t, ms=ms, share=0) for n, t, ms in rows)
    return OperatorsAnswer(operators=operators, types=types, total_ms=sum(types.values()))


def test_casts_of_a_half_precision_graph_are_named_first() -> None:
    half = answer([("conv0", "Conv", 5.0), ("cast_a", "Cast", 2.0), ("cast_b", "Cast", 2.0)])
    full = answer([("conv0_nchwc", "Conv", 4.5)])
    rows = extra_times(half, full)
    assert [(r.name, r.type) for r in rows] == [("", "Cast"), ("", "Conv"), ("conv0", "Conv")]
    assert rows[0].extra_ms == pytest.approx(4.0)
    assert rows[2].against_ms == pytest.approx(4.5)


def test_noise_and_gains_are_left_out() -> None:
    mine = answer([("a", "Conv", 10.01), ("b", "Add", 0.5)])
    other = answer([("a", "Conv", 10.0), ("b", "Add", 1.0)])
    assert extra_times(mine, other) == ()


def test_operators_that_the_optimizer_made_are_not_layers() -> None:
    mine = answer(
        [("ReorderOutput_token_1", "ReorderOutput", 5.0), ("a_quant", "Conv", 1.0), ("a_nchwc", "Conv", 1.0)]
    )
    other = answer([("ReorderOutput_token_9", "ReorderOutput", 1.0), ("a", "Conv", 0.5)])
    assert [(row.name, row.type) for row in extra_times(mine, other)] == [
        ("", "ReorderOutput"),
        ("", "Conv"),
    ]


def test_layer_names_lose_what_optimizers_append() -> None:
    assert layer_name("conv0_quant_nchwc") == "conv0"
    assert layer_name("head.conv") == "head.conv"
