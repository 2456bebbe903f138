"""Warm-up and cosine, the ramps of loss terms, the average's own warm-up."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgec.training.ema import Ema
from edgec.training.schedules import Position, Ramp, learning_rate, ramp


def rates(epochs: int, steps: int, warmup: float, final: float = 0.02, lr: float = 1.0) -> list[float]:
    """Of every step; `steps` in an epoch."""
    total = epochs * steps
    return [learning_rate(Position(s // steps, epochs, s, total), lr, final, warmup) for s in range(total)]


def test_warm_up_is_linear_to_the_full_rate_then_half_a_cosine() -> None:
    found = rates(10, 10, warmup=2.0, final=0.1)
    assert found[:20] == pytest.approx([0.1 + 0.9 * (s + 1) / 20 for s in range(20)])
    assert found[20] == pytest.approx(1.0)
    assert found[60] == pytest.approx(0.55), "half way down at half of the time"
    assert found[20:] == pytest.approx(
        [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * s / 80)) for s in range(80)]
    )


def test_without_warm_up_it_starts_at_the_top_and_a_short_training_warms_up_for_half() -> None:
    assert rates(4, 5, warmup=0)[0] == pytest.approx(1.0)
    assert rates(2, 4, warmup=100)[3] == pytest.approx(1.0)


def test_a_final_rate_of_one_is_flat() -> None:
    assert rates(3, 4, warmup=0, final=1.0, lr=0.3) == pytest.approx([0.3] * 12)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 5), st.floats(0, 1))
def test_the_rate_stays_between_nothing_and_the_full_rate(
    epochs: int, steps: int, warmup: int, final: float
) -> None:
    # whole epochs of warm-up that are whole steps of it, too
    if warmup > epochs / 2 and epochs * steps % 2:
        return
    assert all(0 < rate <= 1 + 1e-9 for rate in rates(epochs, steps, warmup, final))


@pytest.mark.parametrize(
    ("epochs", "steps", "warmup"), [(1, 1, 1.0), (1, 5, 1.0), (4, 5, 0.5), (10, 3, 0.1), (10, 32, 0.3)]
)
def test_the_rate_does_not_overshoot(epochs: int, steps: int, warmup: float) -> None:
    assert max(rates(epochs, steps, warmup)) <= 1 + 1e-9


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("constant", [1, 1, 1]),
        ("linear_down", [1, 0.5, 0]),
        ("cosine_down", [1, 0.5, 0]),
        ("linear_up", [0, 0.5, 1]),
    ],
)
def test_ramps_from_start_to_end(kind: Ramp, values: list[float]) -> None:
    assert [ramp(kind, f) for f in (0, 0.5, 1)] == pytest.approx(values)


def test_cosine_and_line_differ_between() -> None:
    assert ramp("cosine_down", 0.25) == pytest.approx(0.5 * (1 + math.sqrt(0.5)))
    assert ramp("linear_down", 0.25) == pytest.approx(0.75)


def test_the_share_done_counts_from_nothing() -> None:
    assert [Position(0, 2, s, 8).fraction for s in (0, 4, 7)] == [0, 0.5, 0.875]


def test_the_average_forgets_its_start_and_then_follows_slowly() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 100.0)
    ema = Ema(net, 0.998)
    assert float(ema.average["weight"]) == 100
    nn.init.constant_(net.weight, 1.0)
    ema.update()
    assert float(ema.average["weight"]) == pytest.approx(100 * 2 / 11 + 9 / 11)
    for _ in range(200):
        ema.update()
    assert float(ema.average["weight"]) == pytest.approx(1.0, abs=1e-3)
    ema.updates = 1_000_000
    nn.init.constant_(net.weight, 0.0)
    ema.update()
    assert float(ema.average["weight"]) == pytest.approx(0.998, abs=1e-3)


def test_the_average_takes_in_statistics_and_copies_counters() -> None:
    net = nn.BatchNorm2d(2)
    ema = Ema(net, 0.9)
    net.running_mean = net.running_mean  # the buffer itself is followed, in place
    net(torch.randn(4, 2, 3, 3) + 10)
    ema.update()
    assert net.running_mean is not None and net.num_batches_tracked is not None
    assert torch.allclose(ema.average["running_mean"], net.running_mean * 9 / 11)
    assert int(ema.average["num_batches_tracked"]) == 1
    assert ema.average["running_mean"].data_ptr() != net.running_mean.data_ptr()


def test_an_average_follows_a_network_that_was_loaded() -> None:
    net = nn.Linear(1, 1, bias=False)
    ema = Ema(net, 0.0)
    net.load_state_dict({"weight": torch.full((1, 1), 3.0)})
    ema.update()
    assert float(ema.average["weight"]) == 3
    ema.load({"weight": torch.full((1, 1), 8.0)}, updates=5)
    assert (float(ema.average["weight"]), ema.updates) == (8, 5)
    assert float(net.weight.detach()) == 3
