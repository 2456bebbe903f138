"""The guard: what is not finite leaves no trace; too much of it goes back to the last epoch, then gives up."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_task import finite, loss, make_env, make_net, notes, same
from torch import Tensor, nn

from edgec.core.errors import StageError
from edgec.core.events import Event
from edgec.recipe import Train
from edgec.training.ema import Ema
from edgec.training.fit import fit, make_optimizer

CONFIG = Train(epochs=3, lr=0.01)
Poison = Callable[[nn.Module, Any, Any], dict[str, Tensor]]


def poisoned(steps: Collection[int], value: float = float("nan"), times: int = 1_000) -> Poison:
    """The loss, but a second term is `value` at some steps, at most so many times."""
    left = times

    def terms(model: nn.Module, batch: Any, at: Any) -> dict[str, Tensor]:
        nonlocal left
        good = loss(model, batch, at)
        if at.step not in steps or left == 0:
            return good | {"other": 0 * good["square"]}
        left -= 1
        return good | {"other": value * good["square"]}

    return terms


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_bad_step_is_as_if_it_had_not_been(tmp_path: Path, value: float) -> None:
    """Weights and statistics before and after it are equal to the bit, and no average has seen it."""
    config = Train(epochs=1, lr=0.01, momentum=0.9)
    net, seen, heard = make_net(), [], []
    averages: list[bool] = []
    update = Ema.update

    def watched(self: Ema) -> None:
        update(self)
        averages.append(all(bool(torch.isfinite(t).all()) for t in self.average.values()))

    before: dict[str, Tensor] = {}
    after: dict[str, Tensor] = {}

    def look(model: nn.Module, batch: Any, at: Any) -> dict[str, Tensor]:
        seen.append(at.step)
        target = {2: before, 3: after}.get(at.step)
        if target is not None:
            target |= {n: t.clone() for n, t in net.state_dict().items() if t.is_floating_point()}
        return poisoned({2}, value)(model, batch, at)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ema, "update", watched)
        result = fit(net, look, config, make_env(tmp_path, heard=heard))
    assert seen == [0, 1, 2, 3] and result.skipped_steps == 1 and result.rollbacks == 0
    assert before and all(torch.equal(before[n], after[n]) for n in before)
    assert averages == [True] * 3 and finite(net)
    told = next(n for n in notes(heard) if "step 2 skipped" in n)
    assert f"other {value:g}" in told, "the term that was bad is named"


def test_a_gradient_alone_can_be_bad(tmp_path: Path) -> None:
    def terms(model: nn.Module, batch: Any, at: Any) -> dict[str, Tensor]:
        error = model(batch.images) - batch.wanted
        # the root of zero: 0 forward, infinite backward
        root = (0 * error).sum().sqrt() if at.step == 1 else 0 * error.sum()
        return {"square": error.square().mean(), "root": root}

    net = make_net()
    result = fit(net, terms, CONFIG, make_env(tmp_path))
    assert result.skipped_steps == 1 and finite(net)


def test_a_loss_alone_can_be_bad(tmp_path: Path) -> None:
    def terms(model: nn.Module, batch: Any, at: Any) -> dict[str, Tensor]:
        constant = torch.tensor(float("nan") if at.step == 1 else 0.0)
        return loss(model, batch, at) | {"constant": constant}

    result = fit(make_net(), terms, CONFIG, make_env(tmp_path))
    assert result.skipped_steps == 1
    assert result.curves[0].losses["total"] == result.curves[0].losses["total"], "the curve is not NaN"


def test_a_bad_step_is_not_counted_by_batch_norms(tmp_path: Path) -> None:
    net = make_net()
    fit(net, poisoned({1, 5}), CONFIG, make_env(tmp_path))
    assert int(net.get_buffer("1.num_batches_tracked")) == 10


def test_statistics_that_overflow_are_not_kept(tmp_path: Path) -> None:
    def terms(model: nn.Module, batch: Any, at: Any) -> dict[str, Tensor]:
        images = batch.images * (1e25 if at.step == 1 else 1.0)
        return {"square": (model(images) - batch.wanted).square().mean()}

    net = make_net()
    fit(net, terms, CONFIG, make_env(tmp_path))
    assert finite(net)


def test_two_bad_steps_in_a_row_go_on_and_the_third_goes_back(tmp_path: Path) -> None:
    net = make_net()
    result = fit(net, poisoned({5, 6}), CONFIG, make_env(tmp_path / "two"))
    assert (result.skipped_steps, result.rollbacks) == (2, 0)
    result = fit(make_net(), poisoned({5, 6, 7}, times=3), CONFIG, make_env(tmp_path / "three"))
    assert (result.skipped_steps, result.rollbacks) == (3, 1)
    assert [row.epoch for row in result.curves] == [0, 1, 2]


def test_good_steps_between_bad_ones_end_the_count(tmp_path: Path) -> None:
    result = fit(make_net(), poisoned({1, 2, 4, 5, 7, 8, 10, 11}), CONFIG, make_env(tmp_path))
    assert (result.skipped_steps, result.rollbacks) == (8, 0)


def test_back_means_the_end_of_the_last_epoch_with_half_the_rate(tmp_path: Path) -> None:
    """Weights, averages, momenta and torch's random state are those of the checkpoint."""
    torch.manual_seed(7)
    states: dict[int, list[dict[str, Tensor]]] = {}
    net, heard = make_net(), []

    def look(model: nn.Module, batch: Any, at: Any) -> dict[str, Tensor]:
        copied = {n: t.clone() for n, t in net.state_dict().items()} | {"rng": torch.get_rng_state()}
        states.setdefault(at.step, []).append(copied)
        return trouble(model, batch, at)

    trouble = poisoned({6, 7, 8}, times=3)
    result = fit(net, look, CONFIG, make_env(tmp_path, heard=heard))
    assert result.rollbacks == 1
    # 6 and 7 end epoch 1; 8 is the third: back to the end of epoch 1 is where step 8 stood
    assert [len(states[s]) for s in (5, 6, 7, 8)] == [1, 1, 1, 2]
    for name, tensor in states[8][0].items():
        assert torch.equal(tensor, states[8][1][name]), name
    assert any("back to epoch 2, half the learning rate" in n for n in notes(heard))


def test_the_rate_is_halved_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    heard: list[Event] = []

    def watched(*args: Any) -> torch.optim.Optimizer:
        optimizer = make_optimizer(*args)
        optimizer.register_step_post_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"]))
        return optimizer

    monkeypatch.setattr("edgec.training.fit.make_optimizer", watched)
    plain = Train(epochs=2, lr=0.01, warmup_epochs=0, final_lr=1.0)
    fit(make_net(), poisoned({5, 6, 7}, times=6), plain, make_env(tmp_path, heard=heard))
    # epoch 0 whole, then step 4 before each of two rollbacks, then epoch 1 whole
    assert rates == pytest.approx([0.01] * 4 + [0.01] + [0.005] + [0.0025] * 4)


def test_after_three_times_it_gives_up_and_says_what_to_do(tmp_path: Path) -> None:
    heard: list[Event] = []
    net = make_net()
    with pytest.raises(
        StageError, match=r"NaN or infinite after 3 rollbacks.*x0\.125.*lower stages\.train\.lr"
    ):
        fit(net, poisoned(range(4, 100)), CONFIG, make_env(tmp_path, heard=heard))
    assert finite(net)
    assert sum("half the learning rate" in n for n in notes(heard)) == 3


def test_giving_up_names_the_term(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="other"):
        fit(make_net(), poisoned(range(4, 100)), CONFIG, make_env(tmp_path))


def test_a_network_that_explodes_comes_to_rest_by_the_guard(tmp_path: Path) -> None:
    """A rate so high that the weights overflow: no NaN in the result, whichever way it ends."""
    net = make_net()
    wild = Train(epochs=2, lr=1e18, warmup_epochs=0, ema_decay=0.9)
    with pytest.raises(StageError):
        fit(net, loss, wild, make_env(tmp_path))


def test_bad_steps_do_not_enter_the_curves(tmp_path: Path) -> None:
    config = Train(epochs=1, lr=0.01)
    result = fit(make_net(0.0), poisoned({3}), config, make_env(tmp_path / "bad"))
    totals: list[float] = []

    def look(model: nn.Module, batch: Any, at: Any) -> dict[str, Tensor]:
        terms = loss(model, batch, at)
        totals.append(float(terms["square"].detach()))
        return terms

    fit(make_net(0.0), look, config, make_env(tmp_path / "good"))
    assert result.curves[0].losses["total"] == pytest.approx(sum(totals[:3]) / 3)


def test_the_guard_leaves_good_trainings_alone(tmp_path: Path) -> None:
    first, second = make_net(), make_net()
    torch.manual_seed(7)
    fit(first, loss, CONFIG, make_env(tmp_path / "a"))
    torch.manual_seed(7)
    fit(second, poisoned(()), CONFIG, make_env(tmp_path / "b"))
    assert same(first, second)
