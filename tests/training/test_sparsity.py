"""The penalty on batch-norm scales: how much, on which, and untouched by clipping, decay and the loss."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_task import loss, make_env, make_net
from torch import Tensor, nn

from edgec.recipe import Sparsify
from edgec.training.fit import fit, make_optimizer
from edgec.training.schedules import Position
from edgec.training.sparsity import NormScales, SparsityPenalty, penalty_rates, prunable_scales

PAPER = Sparsify(epochs=100)  # its figures are the defaults


def at(epoch: int, epochs: int = 100, steps: int = 10) -> Position:
    return Position(epoch, epochs, epoch * steps, epochs * steps)


def test_the_defaults_are_the_paper_s() -> None:
    assert (PAPER.schedule, PAPER.rate, PAPER.knee, PAPER.percentile, PAPER.relief) == (
        "paper",
        1e-3,
        0.4,
        65,
        0.01,
    )


def test_the_knee_is_at_forty_per_cent_of_the_epochs() -> None:
    scales = torch.linspace(0.01, 1, 100)
    assert [isinstance(penalty_rates(PAPER, scales, at(e)), float) for e in (0, 39, 40, 99)] == [
        True,
        True,
        False,
        False,
    ]


@given(st.lists(st.floats(0, 10, width=32), min_size=3, max_size=200), st.floats(1, 99))
def test_after_the_knee_the_percentile_decides(values: list[float], percentile: float) -> None:
    config = PAPER.model_copy(update={"percentile": percentile})
    scales = torch.tensor(values)
    found = penalty_rates(config, scales, at(50))
    assert isinstance(found, Tensor)
    threshold = torch.quantile(scales, percentile / 100)
    for value, rate in zip(scales, found, strict=True):
        assert float(rate) == pytest.approx(1e-5 if value >= threshold else 1e-3)


def test_thirty_five_per_cent_are_relieved() -> None:
    scales = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    rates = penalty_rates(PAPER, scales, at(50))
    assert isinstance(rates, Tensor)
    assert int((rates < 1e-4).sum()) == 350
    assert float(scales[rates < 1e-4].min()) > float(scales[rates > 1e-4].max())


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1, 1, 1]),
        ("linear", [0, 0.25, 0.75]),
        ("cosine", [0, 0.5 * (1 - math.sqrt(0.5)), 0.5 * (1 + math.sqrt(0.5))]),
    ],
)
def test_the_other_schedules_rise(schedule: Any, expected: list[float]) -> None:
    config = Sparsify(epochs=100, rate=0.2, schedule=schedule)
    found = [penalty_rates(config, torch.ones(3), at(e)) for e in (0, 25, 75)]
    assert found == pytest.approx([0.2 * e for e in expected])


def test_one_percentile_for_all_layers() -> None:
    """Scales are pooled: a layer of large scales is relieved whole, one of small ones not at all."""
    small, large = nn.BatchNorm2d(65), nn.BatchNorm2d(35)
    nn.init.constant_(small.weight, -0.1)
    nn.init.uniform_(large.weight, 1, 2)
    for module in (small, large):
        module.weight.grad = torch.zeros_like(module.weight)
    SparsityPenalty(PAPER, NormScales([small.weight, large.weight]))(at(60))
    assert torch.allclose(small.weight.grad, torch.full((65,), -1e-3))  # type: ignore[arg-type]
    assert torch.allclose(large.weight.grad, torch.full((35,), 1e-5))  # type: ignore[arg-type]


def test_it_is_taken_anew_each_step() -> None:
    scale = nn.Parameter(torch.tensor([0.1, 0.2, 0.9]))
    penalty, seen = SparsityPenalty(PAPER, NormScales([scale])), []
    for _ in range(2):
        scale.grad = torch.zeros(3)
        penalty(at(60))
        seen.append((scale.grad > 1e-4).tolist())
        with torch.no_grad():
            scale.copy_(scale.flip(0))
    assert seen == [[True, True, False], [False, True, True]]


def test_the_penalty_adds_to_the_gradient_and_leaves_zeros_and_frozen_scales() -> None:
    scale = nn.Parameter(torch.tensor([0.0, 2.0, -2.0]))
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    scale.grad = torch.tensor([5.0, 5.0, 5.0])
    SparsityPenalty(Sparsify(epochs=1, rate=0.5, schedule="constant"), NormScales([scale, frozen]))(at(0, 1))
    assert scale.grad.tolist() == [5.0, 5.5, 4.5] and frozen.grad is None


def test_which_scales_are_prunable() -> None:
    net = nn.ModuleDict({
        "stem": nn.BatchNorm2d(2), "neck": nn.ModuleDict({"bn": nn.BatchNorm2d(3), "ln": nn.GroupNorm(1, 3)}),
        "plain": nn.BatchNorm2d(4, affine=False), "line": nn.BatchNorm1d(2),
    })  # fmt: skip
    assert list(prunable_scales(net, [])) == ["stem", "neck.bn"]
    assert list(prunable_scales(net, ["neck*"])) == ["stem"]
    assert list(prunable_scales(net, ["bn"])) == ["stem", "neck.bn"], "a pattern is for the whole name"
    assert prunable_scales(net, [])["neck.bn"] is net["neck"]["bn"].weight  # type: ignore[index]


def test_clipping_does_not_touch_the_penalty(tmp_path: Path) -> None:
    """With the loss's gradient clipped to nearly nothing, plain SGD moves each scale by lr * rate."""
    config = Sparsify(epochs=2, lr=0.1, momentum=0, warmup_epochs=0, final_lr=1, ema_decay=0, rate=0.01,
                      schedule="constant", clip_norm=1e-9, weight_decay=0.5)  # fmt: skip
    net = make_net(0.0)
    scale = net.get_parameter("1.weight")
    before = scale.detach().clone()
    fit(net, loss, config, make_env(tmp_path), after_backward=SparsityPenalty(config, NormScales([scale])))
    assert torch.allclose(scale, before - 8 * 0.1 * 0.01, atol=1e-5)


def test_decay_does_not_act_on_scales_a_second_time() -> None:
    net = make_net()
    for optimizer in ("sgd", "adamw", "soap"):
        config = Sparsify(epochs=1, weight_decay=0.3, optimizer=optimizer)
        groups = make_optimizer(net, None, config).param_groups
        decays = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
        by_name = {name: decays[id(p)] for name, p in net.named_parameters()}
        assert by_name["1.weight"] == by_name["0.bias"] == 0
        assert by_name["0.weight"] == by_name["4.weight"] == 0.3
        assert len(decays) == len(list(net.parameters()))


def test_a_skipped_step_penalizes_nothing(tmp_path: Path) -> None:
    def bad(model: nn.Module, batch: Any, position: Position) -> dict[str, Tensor]:
        return {"square": loss(model, batch, position)["square"] * (np.nan if position.step in (1, 2) else 1)}

    config, net, pulled = Sparsify(epochs=1), make_net(), []
    fit(net, bad, config, make_env(tmp_path), after_backward=lambda p: pulled.append(p.step))
    assert pulled == [0, 3]


def test_absolute_values_are_pooled() -> None:
    scales = NormScales([nn.Parameter(torch.tensor([-1.0, 2.0])), nn.Parameter(torch.tensor([-3.0]))])
    assert scales.sizes().tolist() == [1, 2, 3]


class Recorded:
    """A signal of any kind: fixed sizes, and the rates that it was pulled with."""

    def __init__(self, sizes: list[float]) -> None:
        self.values, self.rates = torch.tensor(sizes), torch.empty(0)

    def sizes(self) -> Tensor:
        return self.values

    def penalize(self, rates: Tensor) -> None:
        self.rates = rates


def test_any_signal_gets_a_rate_for_each_channel() -> None:
    signal = Recorded([0.1, 0.2, 2.0])
    penalty = SparsityPenalty(PAPER, signal)
    penalty(at(0))
    assert signal.rates.tolist() == pytest.approx([1e-3] * 3)
    penalty(at(60))
    assert signal.rates.tolist() == pytest.approx([1e-3, 1e-3, 1e-5])
