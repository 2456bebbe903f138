"""What edgec offers to the tests of its users: a whole task, its network, an environment."""

from __future__ import annotations

from pathlib import Path

import torch

from edgec.core.results.training import TrainResult
from edgec.recipe import Train
from edgec.stages.train import train
from edgec.tasks.predictor import torch_predictor
from edgec.tasks.protocol import Task
from edgec.testing import TinyTask, env_for, tiny_network


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
