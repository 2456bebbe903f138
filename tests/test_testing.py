"""What edgec offers to the tests of its users: a whole task, its network, an environment, a recipe, a runtime."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

import edgec
from edgec.core.results.training import TrainResult
from edgec.recipe import Profile, Train
from edgec.stages.train import train
from edgec.tasks.predictor import torch_predictor
from edgec.tasks.protocol import Task
from edgec.testing import TinyBatches, TinyTask, env_for, null_runtime, tiny_network, tiny_recipe


def test_a_stage_runs_in_its_environment_and_learns(tmp_path: Path) -> None:
    task: Task = TinyTask()  # type checkers compare it with the whole protocol
    env = env_for(task, tmp_path)
    before = task.evaluate(torch_predictor(env.dense.build(), task), "val")
    config = Train(kind="train", epochs=8, batch=32, optimizer="adamw", lr=0.01)
    network, result = train(config, env.dense, env)
    assert isinstance(result, TrainResult) and result.final is not None
    assert before["score"] < result.final["score"] < 0
    assert task.evaluate(torch_predictor(network.build(), task), "val") == result.final


def test_the_same_seed_gives_the_same() -> None:
    first, second = tiny_network(seed=3).build(), tiny_network(seed=3).build()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    one, two = (next(TinyTask().batches(4, 1, 7).epoch(2)).images for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, next(TinyTask().batches(4, 1, 8).epoch(2)).images)


def test_the_tiny_recipe_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEC_STORE", str(tmp_path / "store"))
    recipe = tiny_recipe()
    recipe["stages"] = {"prune": {"ratio": 0.3}, "export": {"precisions": ["fp32"]}}
    run = edgec.compress(recipe, run=tmp_path / "run")
    assert (run.artifacts / "model.fp32.onnx").exists() and run.report.exists()


def test_the_tiny_recipe_has_every_stage_and_is_the_callers_own() -> None:
    recipe = tiny_recipe()
    kinds = [stage.kind for stage in edgec.load(recipe).stages.values()]
    assert kinds == ["train", "sparsify", "prune", "distill", "quantize", "export", "profile"]
    recipe["stages"].clear()
    assert tiny_recipe()["stages"]


def test_the_null_runtime_is_known_inside_its_block_alone() -> None:
    with null_runtime() as name:
        assert Profile(runtimes=(name,)).runtimes == ("null",)
    with pytest.raises(ValidationError, match="null"):
        Profile(runtimes=("null",))


def test_a_task_of_larger_images_is_whole(tmp_path: Path) -> None:
    class Larger(TinyTask):
        side = 12

    task: Task = Larger()
    assert task.example().shape == task.contract(nn.Identity()).input.shape == (1, 3, 12, 12)
    assert task.images("val", 2).shape == (2, 3, 12, 12)
    assert next(task.batches(2, 1, 0).epoch(0)).images.shape == (2, 3, 12, 12)
    assert len(TinyBatches(4, steps=2)) == len(list(TinyBatches(4, steps=2).epoch(0))) == 2
    assert env_for(task, tmp_path, seed=5).seed == 5
