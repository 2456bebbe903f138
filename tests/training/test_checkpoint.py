"""Checkpoints: whole or not at all, nothing left out, damage noticed."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tiny_task import Stop, StopAt, loss, make_env, make_net, notes, same
from torch import Tensor, nn

from edgec.core.errors import StorageError
from edgec.core.events import Event
from edgec.recipe import Train
from edgec.training import checkpoint
from edgec.training.checkpoint import State
from edgec.training.fit import fit

CONFIG = Train(epochs=3, lr=0.05)
LAST_STEP = 11


def train(folder: Path, seed: int = 7, heard: list[Event] | None = None, **options: Any) -> nn.Module:
    net = make_net()
    torch.manual_seed(seed)
    fit(
        net,
        loss,
        options.get("config", CONFIG),
        make_env(folder, heard=heard),
        helpers=options.get("helpers"),
    )
    return net


def stop_at(step: int, folder: Path, **options: Any) -> None:
    net = make_net()
    torch.manual_seed(7)
    with pytest.raises(Stop):
        fit(
            net, StopAt(step), options.get("config", CONFIG), make_env(folder), helpers=options.get("helpers")
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    """The training that nothing stopped."""
    return train(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that died in its last epoch: checkpoints after epochs 1 and 2."""
    folder = tmp_path_factory.mktemp("stopped")
    stop_at(9, folder)
    return folder


@pytest.fixture
def parts(stopped: Path, tmp_path: Path) -> Path:
    shutil.copytree(stopped, tmp_path / "parts")
    return tmp_path / "parts"


def checkpoints(folder: Path, suffix: str) -> list[Path]:
    return sorted((folder / "scratch").glob(f"*.{suffix}"))


def test_a_resumed_training_is_the_whole_one(whole: nn.Module, parts: Path) -> None:
    assert same(whole, train(parts, seed=99))


@pytest.mark.parametrize(
    "left_out", ["net/0.weight", "net/1.running_mean", "optimizer/", "ema/0.weight", "ema/1.running_var", "rng/"]
)  # fmt: skip
def test_without_any_one_tensor_it_is_another(
    whole: nn.Module, parts: Path, left_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the test above: each part is what makes it pass."""
    restore = State.restore

    def forgetful(self: State, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        kept = {n: t for n, t in tensors.items() if not n.startswith(left_out)}
        assert len(kept) < len(tensors)
        restore(self, {**self.tensors(), **kept}, counters)

    monkeypatch.setattr(State, "restore", forgetful)
    assert not same(whole, train(parts, seed=99))


@pytest.mark.parametrize(("name", "value"), [("epoch", 1), ("lr_scale", 0.5)])
def test_without_any_one_counter_it_is_another(
    whole: nn.Module, parts: Path, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = checkpoint.load_last

    def changed(*args: Any) -> dict[str, Any] | None:
        progress = load(*args)
        assert progress is not None and progress[name] != value
        return {**progress, name: value}

    monkeypatch.setattr(checkpoint, "load_last", changed)
    assert not same(whole, train(parts, seed=99))


def test_without_the_average_s_counter_it_is_another(
    whole: nn.Module, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = State.restore

    def changed(self: State, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        assert counters["ema_updates"] == 8
        restore(self, tensors, {**counters, "ema_updates": 0})

    monkeypatch.setattr(State, "restore", changed)
    assert not same(whole, train(parts, seed=99))


def test_adamw_counts_its_steps_across_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Train(epochs=3, optimizer="adamw", lr=0.01)
    expected = train(tmp_path / "whole", config=config)
    stop_at(9, tmp_path / "parts", config=config)
    shutil.copytree(tmp_path / "parts", tmp_path / "copy")
    assert same(expected, train(tmp_path / "parts", seed=99, config=config))

    tensors = State.tensors
    for path in checkpoints(tmp_path / "copy", "safetensors"):
        names = set(safetensors.torch.load(path.read_bytes()))
        assert {"optimizer/0/step", "optimizer/0/exp_avg", "optimizer/0/exp_avg_sq"} <= names
    restore = State.restore

    def without_steps(self: State, found: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        reset = {n: torch.zeros_like(t) if n.endswith("/step") else t for n, t in found.items()}
        restore(self, {**tensors(self), **reset}, counters)

    monkeypatch.setattr(State, "restore", without_steps)
    assert not same(expected, train(tmp_path / "copy", seed=99, config=config))


def test_helpers_are_kept_too(tmp_path: Path) -> None:
    def helper() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            return nn.Linear(1, 1)

    class Helped:
        """The loss through a helper, until a step is reached."""

        def __init__(self, module: nn.Module, step: int = -1) -> None:
            self.module, self.step = module, step

        def __call__(self, model: nn.Module, batch: Any, at: Any) -> dict[str, Tensor]:
            if at.step == self.step:
                raise Stop
            return {"square": (self.module(model(batch.images)) - batch.wanted).square().mean()}

    def run(folder: str, step: int = -1) -> tuple[nn.Module, nn.Module]:
        net, module = make_net(), helper()
        torch.manual_seed(7)
        fit(net, Helped(module, step), CONFIG, make_env(tmp_path / folder), helpers=module)
        return net, module

    expected = run("whole")
    assert not same(expected[1], helper()), "the helper was trained"
    with pytest.raises(Stop):
        run("parts", step=6)
    reached = run("parts")
    assert same(expected[0], reached[0]) and same(expected[1], reached[1])


def test_a_training_that_is_over_is_not_done_again(whole: nn.Module, tmp_path: Path) -> None:
    """Killed after the last checkpoint, before the stage's result was stored."""
    train(tmp_path)

    def never(*_: Any) -> dict[str, Tensor]:
        raise AssertionError("a step was taken")

    net = make_net()
    result = fit(net, never, CONFIG, make_env(tmp_path))
    assert same(whole, net) and not net.training
    assert len(result.curves) == 3 and result.final is not None
    assert result.final["score"] == result.curves[-1].metrics["score"]


def test_only_safetensors_and_json_lie_there_and_only_two_of_each(stopped: Path) -> None:
    assert [p.name for p in sorted((stopped / "scratch").iterdir())] == [
        "epoch-000001.json", "epoch-000001.safetensors", "epoch-000002.json", "epoch-000002.safetensors",
    ]  # fmt: skip
    for path in checkpoints(stopped, "safetensors"):
        assert safetensors.torch.load(path.read_bytes())
        json.loads(path.with_suffix(".json").read_text())


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "gone", "not json"])
def test_damage_gives_way_to_the_checkpoint_before(whole: nn.Module, parts: Path, damage: str) -> None:
    tensors, text = checkpoints(parts, "safetensors")[-1], checkpoints(parts, "json")[-1]
    data = bytearray(tensors.read_bytes())
    match damage:
        case "flipped":
            data[len(data) // 2] ^= 1
            tensors.write_bytes(data)
        case "cut":
            tensors.write_bytes(data[: len(data) // 2])
        case "empty":
            tensors.write_bytes(b"")
        case "gone":
            tensors.unlink()
        case _:
            text.write_text(text.read_text()[:-5])
    heard: list[Event] = []
    assert same(whole, train(parts, seed=99, heard=heard))
    assert [n for n in notes(heard) if "epoch-000002 is damaged" in n]
    assert "train: resumes after epoch 1" in notes(heard)


def test_with_every_checkpoint_damaged_it_starts_again(parts: Path, whole: nn.Module) -> None:
    for path in checkpoints(parts, "safetensors"):
        path.write_bytes(b"")
    heard: list[Event] = []
    assert same(whole, train(parts, heard=heard))  # the seed of the whole one: nothing is resumed
    assert sum("is damaged" in n for n in notes(heard)) == 2


def test_after_damage_new_checkpoints_are_kept(tmp_path: Path) -> None:
    config = Train(epochs=4, lr=0.05)
    stop_at(13, tmp_path, config=config)
    for path in checkpoints(tmp_path, "safetensors"):  # of epochs 2 and 3
        path.write_bytes(b"")
    stop_at(6, tmp_path, config=config)
    heard: list[Event] = []
    train(tmp_path, heard=heard, config=config)
    assert "train: resumes after epoch 1" in notes(heard)


@pytest.mark.parametrize("change", [('"lr_scale": 1.0', '"lr_scale": 9.0'), ('"rollbacks"', '"rollback3"')])
def test_a_changed_byte_in_the_json_is_noticed(
    whole: nn.Module, parts: Path, change: tuple[str, str]
) -> None:
    path = checkpoints(parts, "json")[-1]
    before = path.read_text()
    assert change[0] in before
    path.write_text(before.replace(*change))
    assert same(whole, train(parts, seed=99))


def test_a_full_disk_keeps_the_last_checkpoint(
    whole: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    save, sync = checkpoint.save, os.fsync

    def counted(*args: Any) -> None:
        nonlocal written
        written += 1
        save(*args)

    def full(handle: int) -> None:
        if written == 3:  # the one of the start, of epoch 1, of epoch 2
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", counted)
        patch.setattr("edgec.core.files.os.fsync", full)
        with pytest.raises(StorageError, match=r"epoch-000002\.safetensors: no space left.*resumes"):
            train(tmp_path)
    assert not [p for p in (tmp_path / "scratch").iterdir() if p.name.startswith(".")], "no half file is left"
    heard: list[Event] = []
    assert same(whole, train(tmp_path, seed=99, heard=heard))
    assert "train: resumes after epoch 1" in notes(heard)


@pytest.mark.parametrize("step", range(0, LAST_STEP + 1, 2))
def test_control_c_at_any_step_leaves_a_checkpoint_to_go_on_from(
    whole: nn.Module, tmp_path: Path, step: int
) -> None:
    class Pressed:
        def __call__(self, model: nn.Module, batch: Any, at: Any) -> dict[str, Tensor]:
            if at.step == step:
                raise KeyboardInterrupt
            return loss(model, batch, at)

    net, env = make_net(), make_env(tmp_path)
    torch.manual_seed(7)
    with pytest.raises(KeyboardInterrupt):
        fit(net, Pressed(), CONFIG, env)
    assert env.task.made[-1].closed  # type: ignore[attr-defined]
    assert same(whole, train(tmp_path, seed=99))
