"""What the loop asks of the task, tells while it runs, and leaves behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_task import STEPS, Stop, StopAt, Task, finite, loss, make_env, make_net, same
from torch import Tensor, nn

from edgec.core.events import EpochEnded, Event, Step
from edgec.env import Env
from edgec.recipe import Train
from edgec.training.fit import choose_precision, fit, make_optimizer
from edgec.training.soap import Soap


def task_of(env: Env) -> Task:
    assert isinstance(env.task, Task)
    return env.task


def test_the_task_is_asked_for_what_the_config_says(tmp_path: Path) -> None:
    env = replace(make_env(tmp_path), seed=11)
    fit(make_net(), loss, Train(epochs=2, batch=3, workers=0), env)
    assert task_of(env).asked == [{"batch": 3, "epochs": 2, "seed": 11, "workers": 0}]
    assert [made.closed for made in task_of(env).made] == [True]


def test_the_loss_gets_the_position_of_every_step(tmp_path: Path) -> None:
    seen: list[tuple[int, int, int, int]] = []

    def look(model: nn.Module, batch: Any, at: Any) -> dict[str, Tensor]:
        assert model.training
        seen.append((at.epoch, at.epochs, at.step, at.steps))
        return loss(model, batch, at)

    fit(make_net(), look, Train(epochs=2), make_env(tmp_path))
    assert seen == [(s // STEPS, 2, s, 2 * STEPS) for s in range(2 * STEPS)]


def test_the_network_learns_and_ends_at_rest(tmp_path: Path) -> None:
    net = make_net(0.0)
    result = fit(net, loss, Train(epochs=20, lr=0.05), make_env(tmp_path))
    first, last = (result.curves[i].losses["square"] for i in (0, -1))
    assert first is not None and last is not None and last < 0.5 * first
    assert not net.training and all(p.grad is None for p in net.parameters())
    assert all(t.is_contiguous() for t in net.state_dict().values())
    assert result.images_per_second > 0 and result.train_seconds > 0
    assert result.images_per_second * result.train_seconds == pytest.approx(
        20 * STEPS * 16, rel=0.1
    )  # rounded


def test_the_result_holds_the_averages_and_they_are_what_is_evaluated(tmp_path: Path) -> None:
    live: dict[str, Tensor] = {}
    net = make_net()

    def look(at: Any) -> None:
        live.update({n: p.detach().clone() for n, p in net.named_parameters()})

    env = make_env(tmp_path)
    result = fit(net, loss, Train(epochs=3, lr=0.05, ema_decay=0.99), env, after_backward=look)
    assert not torch.equal(live["0.weight"], net.get_parameter("0.weight"))
    error = task_of(env).evaluated[-1]
    assert result.final is not None and result.final["score"] == -error
    predicted = Task()
    predicted.evaluate(predictor(net), "val")
    assert predicted.evaluated == pytest.approx([error])


def predictor(net: nn.Module) -> Any:
    from edgec.tasks.predictor import torch_predictor

    return torch_predictor(net, Task())


def test_without_averaging_the_last_weights_stay(tmp_path: Path) -> None:
    """Plain SGD by hand gives the same network."""
    config = Train(epochs=1, lr=0.01, final_lr=1, warmup_epochs=0, momentum=0, weight_decay=0, ema_decay=0,
                   clip_norm=1e9)  # fmt: skip
    net, by_hand, env = make_net(0.0), make_net(0.0), make_env(tmp_path)
    fit(net, loss, config, env)
    by_hand.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for batch in task_of(env).made[0].epoch(0):
        by_hand.zero_grad()
        (by_hand(batch.images) - batch.wanted).square().mean().backward()
        with torch.no_grad():
            for p in by_hand.parameters():
                assert p.grad is not None
                p -= 0.01 * p.grad
    for name, tensor in by_hand.state_dict().items():
        assert torch.allclose(tensor, net.state_dict()[name], atol=1e-5), name


@pytest.mark.parametrize(("every", "when"), [(0, [4]), (1, [0, 1, 2, 3, 4]), (2, [1, 3, 4])])
def test_when_it_evaluates(tmp_path: Path, every: int, when: list[int]) -> None:
    heard: list[Event] = []
    result = fit(make_net(), loss, Train(epochs=5, evaluate_every=every), make_env(tmp_path, heard=heard))
    assert [row.epoch for row in result.curves if row.metrics.values] == when
    ended = [e for e in heard if isinstance(e, EpochEnded)]
    assert [e.epoch for e in ended if e.metrics] == when
    assert result.final is not None
    assert result.final.flat().keys() == {"score", "score/first", "split_is_val"}
    assert result.final["split_is_val"] == 1
    assert ended[-1].metrics.keys() == {"score", "split_is_val"}, "figures of single classes are no headline"


def test_evaluating_changes_nothing(tmp_path: Path) -> None:
    first, second = make_net(), make_net()
    for net, every in ((first, 1), (second, 0)):
        torch.manual_seed(7)
        fit(net, loss, Train(epochs=3, evaluate_every=every), make_env(tmp_path / str(every)))
    assert same(first, second)


def test_events_tell_step_rate_terms_and_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgec.training.fit.EVENT_SECONDS", 0.0)
    heard: list[Event] = []
    fit(make_net(), lambda m, b, a: {"a": loss(m, b, a)["square"], "b": 2 * m(b.images).mean() ** 2},
        Train(epochs=2, lr=0.3, warmup_epochs=0, final_lr=1), make_env(tmp_path, heard=heard))  # fmt: skip
    steps = [e for e in heard if isinstance(e, Step)]
    assert [(e.step, e.steps, e.epoch, e.epochs) for e in steps] == [(s, 8, s // 4, 2) for s in range(8)]
    for event in steps:
        assert event.losses["total"] == pytest.approx(event.losses["a"] + event.losses["b"], rel=1e-5)
        assert event.lr == pytest.approx(0.3)
    assert all(e.seconds_left is not None and e.seconds_left >= 0 for e in steps)
    assert steps[-1].seconds_left == 0
    json.dumps([e.to_json() for e in heard], allow_nan=False)
    means = [e.losses for e in heard if isinstance(e, EpochEnded)]
    for epoch, mean in enumerate(means):
        rows = [e.losses["a"] for e in steps if e.epoch == epoch]
        assert mean["a"] == pytest.approx(sum(rows) / len(rows))


def test_steps_are_reported_twice_a_second_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Event] = []
    clock = iter(i * 0.01 for i in range(1_000_000))
    monkeypatch.setattr("edgec.training.fit.time.monotonic", lambda: 100 + next(clock))
    fit(make_net(), loss, Train(epochs=60), make_env(tmp_path, heard=heard))
    told, seconds = sum(isinstance(e, Step) for e in heard), next(clock)
    assert seconds - 2 <= told <= 2 * seconds + 1 and told < 60 * STEPS / 10


def test_precision_is_chosen_by_what_was_measured() -> None:
    assert [choose_precision(p, "cpu") for p in ("auto", "fp32", "bf16", "fp16")] == [
        "fp32",
        "fp32",
        "bf16",
        "fp32",
    ]
    assert [choose_precision(p, "cuda") for p in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]


def test_bf16_trains_on_the_cpu_with_weights_in_fp32(tmp_path: Path) -> None:
    seen: list[torch.dtype] = []

    def look(model: nn.Module, batch: Any, at: Any) -> dict[str, Tensor]:
        output = model(batch.images)
        seen.append(output.dtype)
        return {"square": (output.float() - batch.wanted).square().mean()}

    net = make_net()
    fit(net, look, Train(epochs=1, precision="bf16"), make_env(tmp_path))
    assert set(seen) == {torch.bfloat16}
    assert {t.dtype for t in net.parameters()} == {torch.float32} and finite(net)


def test_optimizers_are_set_as_asked() -> None:
    net = make_net()
    sgd = make_optimizer(net, None, Train(epochs=1, lr=0.2, momentum=0.8))
    assert isinstance(sgd, torch.optim.SGD)
    assert {(g["lr"], g["momentum"], g["nesterov"]) for g in sgd.param_groups} == {(0.2, 0.8, True)}
    plain = make_optimizer(net, None, Train(epochs=1, momentum=0))
    assert {g["nesterov"] for g in plain.param_groups} == {False}
    adamw = make_optimizer(net, None, Train(epochs=1, optimizer="adamw", momentum=0.85))
    assert isinstance(adamw, torch.optim.AdamW)
    assert {g["betas"] for g in adamw.param_groups} == {(0.85, 0.999)}
    soap = make_optimizer(net, None, Train(epochs=1, optimizer="soap", momentum=0.9))
    assert isinstance(soap, Soap)
    assert {g["betas"] for g in soap.param_groups} == {(0.9, 0.95)}


def test_helpers_are_optimized_and_what_is_frozen_is_not() -> None:
    net, helper = make_net(), nn.Linear(2, 2)
    net.get_submodule("0").requires_grad_(False)
    groups = make_optimizer(net, helper, Train(epochs=1)).param_groups
    found = {id(p) for g in groups for p in g["params"]}
    assert {id(p) for p in helper.parameters()} <= found
    assert not {id(p) for p in net.get_submodule("0").parameters()} & found


def scalars(folder: Path) -> dict[str, list[int]]:
    """Steps of each tag in the event files of a folder."""
    board = EventAccumulator(str(folder))
    board.Reload()
    return {tag: [e.step for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


def test_tensorboard_files_hold_losses_metrics_and_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgec.training.fit.EVENT_SECONDS", 0.0)
    fit(make_net(), loss, Train(epochs=3, evaluate_every=1), make_env(tmp_path))
    found = scalars(tmp_path / "out" / "tensorboard")
    assert found["loss/square"] == found["loss/total"] == found["metric/score"] == [0, 1, 2]
    assert found["step/lr"] == found["step/square"] == list(range(12))
    assert not any("first" in tag for tag in found)


def test_after_a_resume_tensorboard_has_the_epochs_before_it(tmp_path: Path) -> None:
    config = Train(epochs=3)
    with pytest.raises(Stop):
        fit(make_net(), StopAt(9), config, make_env(tmp_path))
    again = replace(make_env(tmp_path), out=tmp_path / "out-again")
    fit(make_net(), loss, config, again)
    assert scalars(tmp_path / "out-again" / "tensorboard")["loss/total"] == [0, 1, 2]


def test_one_seed_gives_one_network(tmp_path: Path) -> None:
    first, second = make_net(), make_net()
    for name, net, before in (("a", first, 1), ("b", second, 2)):
        torch.manual_seed(before)
        fit(net, loss, Train(epochs=1), make_env(tmp_path / name))
    assert same(first, second)
