"""The ranking of layers: measured, not assumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgec.onnx.graph import convolutions
from edgec.quantization.qdq_graph import insert_pairs
from edgec.quantization.sensitivity import outputs_on, sensitivity


def test_worst_first_and_every_layer_named(tiny: Any) -> None:
    told: list[tuple[int, int]] = []
    table = sensitivity(tiny.model, tiny.ranges, tiny.images, lambda done, total: told.append((done, total)))
    assert set(table) == set(convolutions(tiny.model))
    assert list(table.values()) == sorted(table.values())
    assert all(10 < db < 120 for db in table.values())
    assert told[-1] == (24, 24)


def test_a_spoilt_layer_comes_first(exported: Callable[..., Any]) -> None:
    """A layer whose output is mostly one far channel loses the others in int8."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.1),
        nn.Conv2d(8, 8, 3, padding=1), nn.LeakyReLU(0.1),
        nn.Conv2d(8, 8, 3, padding=1), nn.LeakyReLU(0.1),
        nn.Conv2d(8, 4, 1),
    )  # fmt: skip
    with torch.no_grad():
        net.get_parameter("2.weight")[0] *= 2000
        net.get_parameter("4.weight")[:, 0] = 0  # nobody reads that channel
    made = exported(net)
    table = sensitivity(made.model, made.ranges, made.images)
    worst = next(iter(table))
    assert worst in ("2", "4")  # the layer that writes the tensor, or the one that reads it
    others = [db for name, db in table.items() if name not in ("2", "4")]
    assert min(others) > table[worst] + 20


def test_outputs_do_not_depend_on_the_batch(tiny: Any) -> None:
    whole = outputs_on(tiny.model, tiny.images)
    halves = [outputs_on(tiny.model, tiny.images[i : i + 2]) for i in (0, 2)]
    for k, output in enumerate(whole):
        assert np.concatenate([h[k] for h in halves]) == pytest.approx(output, abs=1e-5)


def test_returning_the_worst_layer_to_float_helps(tiny: Any) -> None:
    table = sensitivity(tiny.model, tiny.ranges, tiny.images)
    reference = outputs_on(tiny.model, tiny.images)

    def noise_with(kept: list[str]) -> float:
        reached = outputs_on(insert_pairs(tiny.model, tiny.ranges, kept), tiny.images)
        return sum(float(np.square(a - b).sum()) for a, b in zip(reference, reached, strict=True))

    assert noise_with(list(table)[:6]) < noise_with([])
