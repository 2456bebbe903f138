"""The training loop: resume to the bit, a guard against NaN, averages, schedules, and the penalty of sparse training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_task import Stop, StopAt, loss, make_env, make_net, notes, same
from torch import Tensor, nn

from edgec.core.errors import StageError
from edgec.core.events import Event
from edgec.recipe import Sparsify, Train
from edgec.testing import TinyBatch
from edgec.training.ema import Ema
from edgec.training.fit import LossFn, fit, make_optimizer
from edgec.training.schedules import Position, learning_rate, ramp
from edgec.training.sparsity import NormScales, SparsityPenalty, prunable_scales


def train_config(**settings: Any) -> Train:
    return Train(batch=4, **settings)


def test_the_callers_random_numbers_go_on_as_if_nothing_was_trained(tmp_path: Path) -> None:
    trained = make_net()
    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    fit(trained, loss, train_config(epochs=1, lr=0.01), make_env(tmp_path))
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "soap"])
@pytest.mark.parametrize("step", [0, 4, 6, 8, 11])
def test_a_resumed_training_is_the_same_to_the_bit(tmp_path: Path, optimizer: str, step: int) -> None:
    config = train_config(epochs=3, optimizer=optimizer, lr=0.01)
    whole, parts = make_net(), make_net()
    torch.manual_seed(7)
    expected = fit(whole, loss, config, make_env(tmp_path / "whole"))
    torch.manual_seed(7)
    with pytest.raises(Stop):
        fit(parts, StopAt(step), config, make_env(tmp_path / "parts"))
    torch.manual_seed(99)  # another process has another state
    resumed = make_net()
    torch.manual_seed(1234)
    reached = fit(resumed, loss, config, make_env(tmp_path / "parts"))
    assert same(whole, resumed)
    assert [c.losses for c in expected.curves] == [c.losses for c in reached.curves]


@pytest.mark.parametrize("left_out", ["optimizer/", "ema/", "rng/torch", "net/1.running_mean"])
def test_each_part_of_the_state_matters(
    tmp_path: Path, left_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume without any one part gives another network: so the test above can fail."""
    from edgec.training.checkpoint import State

    config = train_config(epochs=3, optimizer="sgd", lr=0.05)
    whole, resumed = make_net(), make_net()
    torch.manual_seed(7)
    fit(whole, loss, config, make_env(tmp_path / "whole"))
    torch.manual_seed(7)
    with pytest.raises(Stop):
        fit(make_net(), StopAt(8), config, make_env(tmp_path / "parts"))
    restore = State.restore

    def forgetful(self: State, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
        fresh = {**self.tensors(), **{n: t for n, t in tensors.items() if not n.startswith(left_out)}}
        restore(self, fresh, counters)

    monkeypatch.setattr(State, "restore", forgetful)
    torch.manual_seed(1234)
    fit(resumed, loss, config, make_env(tmp_path / "parts"))
    assert not same(whole, resumed)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    config = train_config(epochs=3, lr=0.01)
    heard: list[Event] = []
    whole, stopped, resumed = make_net(), make_net(), make_net()
    torch.manual_seed(7)
    fit(whole, loss, config, make_env(tmp_path / "whole"))
    torch.manual_seed(7)
    with pytest.raises(Stop):
        fit(stopped, StopAt(9), config, make_env(tmp_path / "parts"))
    newest = sorted((tmp_path / "parts" / "scratch").glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    fit(resumed, loss, config, make_env(tmp_path / "parts", heard=heard))
    assert same(whole, resumed) and any("damaged" in n for n in notes(heard))


def test_no_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    fit(make_net(), loss, train_config(epochs=1), make_env(tmp_path))
    assert {p.suffix for p in (tmp_path / "scratch").iterdir()} == {".json", ".safetensors"}
    assert list((tmp_path / "out" / "tensorboard").iterdir())


def test_one_bad_step_leaves_no_trace_and_many_roll_back(tmp_path: Path) -> None:
    def bad(steps: set[int]) -> LossFn:
        def broken(model: nn.Module, batch: TinyBatch, at: Position) -> dict[str, Tensor]:
            poison = float("nan") if at.step in steps else 1.0
            return {"square": loss(model, TinyBatch(batch.images * poison, batch.wanted), at)["square"]}

        return broken

    heard: list[Event] = []
    once = make_net()
    result = fit(once, bad({2}), train_config(epochs=2, lr=0.01), make_env(tmp_path / "once", heard=heard))
    assert result.skipped_steps == 1 and result.rollbacks == 0
    assert all(bool(torch.isfinite(t).all()) for t in once.state_dict().values())
    assert any("step 2 skipped" in n and "square nan" in n for n in notes(heard))
    with pytest.raises(StageError, match=r"stages\.train\.lr"):
        fit(
            make_net(),
            bad(set(range(4, 8))),
            train_config(epochs=2, lr=0.01),
            make_env(tmp_path / "always", heard=heard),
        )
    assert sum("half the learning rate" in n for n in notes(heard)) == 3


def test_gradients_are_clipped_and_norms_carry_no_decay(tmp_path: Path) -> None:
    norms: list[float] = []
    module = make_net()

    def look(at: Position) -> None:
        squares = [p.grad.square().sum() for p in module.parameters() if p.grad is not None]
        norms.append(float(torch.stack(squares).sum().sqrt()))

    def big(model: nn.Module, batch: TinyBatch, at: Position) -> dict[str, Tensor]:
        return {"big": 1e4 * loss(model, batch, at)["square"]}

    fit(module, big, train_config(epochs=1, lr=1e-6, clip_norm=0.5), make_env(tmp_path), after_backward=look)
    assert norms and max(norms) <= 0.5 + 1e-4
    groups = make_optimizer(module, None, train_config(epochs=1, weight_decay=0.1)).param_groups
    assert {(p.ndim > 1, g["weight_decay"]) for g in groups for p in g["params"]} == {
        (True, 0.1),
        (False, 0.0),
    }


def test_the_average_follows_its_formula() -> None:
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(0.0)
    ema = Ema(module, decay=0.5)
    expected = 0.0
    for updates in range(1, 30):
        with torch.no_grad():
            module.weight.fill_(float(updates))
        ema.update()
        decay = min(0.5, (1 + updates) / (10 + updates))
        expected = decay * expected + (1 - decay) * updates
    assert float(ema.average["weight"]) == pytest.approx(expected, rel=1e-5)


def test_the_learning_rate_warms_up_and_falls() -> None:
    rates = [learning_rate(Position(s // 10, 10, s, 100), 1.0, 0.05, 2.0) for s in range(100)]
    assert rates[0] == pytest.approx(0.145) and max(rates) == pytest.approx(1.0)
    assert rates[:20] == sorted(rates[:20]) and rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] == pytest.approx(0.05, abs=0.01)
    assert [ramp(k, 0.5) for k in ("constant", "linear_down", "cosine_down", "linear_up")] == pytest.approx(
        [1, 0.5, 0.5, 0.5]
    )


def pulled(config: Sparsify, values: list[float], at: Position) -> list[float]:
    module = nn.BatchNorm2d(len(values))
    with torch.no_grad():
        module.weight.copy_(torch.tensor(values))
    module.weight.grad = torch.zeros(len(values))
    SparsityPenalty(config, NormScales([module.weight]))(at)
    return module.weight.grad.tolist()


def test_the_paper_s_schedule_relieves_large_scales_after_the_knee() -> None:
    config = Sparsify(epochs=10, rate=0.1, schedule="paper", knee=0.4, percentile=65, relief=0.01)
    values = [0.1, -0.2, 0.3, 0.9]
    assert pulled(config, values, Position(3, 10, 30, 100)) == pytest.approx([0.1, -0.1, 0.1, 0.1])
    # the 65th percentile of |g| lies between 0.2 and 0.3 of the way: 0.295, so 0.3 and 0.9 are relieved
    assert pulled(config, values, Position(4, 10, 40, 100)) == pytest.approx([0.1, -0.1, 0.001, 0.001])


@pytest.mark.parametrize(("schedule", "expected"), [("constant", 0.1), ("linear", 0.05), ("cosine", 0.05)])
def test_the_other_schedules(schedule: str, expected: float) -> None:
    config = Sparsify(epochs=10, rate=0.1, schedule=schedule)  # type: ignore[arg-type]
    assert pulled(config, [1.0, -1.0], Position(5, 10, 50, 100)) == pytest.approx([expected, -expected])


def test_patterns_spare_norms_and_none_left_is_an_error() -> None:
    module = nn.ModuleDict({"head": nn.BatchNorm2d(2), "body": nn.BatchNorm2d(2)})
    assert list(prunable_scales(module, ["head*"])) == ["body"]
    with pytest.raises(StageError, match="no batch norm"):
        prunable_scales(module, ["*"])
