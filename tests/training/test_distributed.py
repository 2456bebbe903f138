"""Two processes (gloo): the same weights on both, the gradients of the whole batch, one decision about NaN."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tiny_task import loss, make_env, make_net
from torch import Tensor

from edgec.env import ProcessGroup
from edgec.recipe import Train
from edgec.training.distributed import average, barrier
from edgec.training.fit import fit

WORKER = Path(__file__).with_name("ddp_worker.py")
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Pair:
    """What both ranks came to."""

    weights: list[dict[str, Tensor]]
    told: list[dict[str, Any]]


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


Both = Callable[[str, Path], Pair]


@pytest.fixture
def both() -> Both:
    def run(case: str, folder: Path) -> Pair:
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1",
                  "PYTHONPATH": os.pathsep.join([str(WORKER.parent), *sys.path])}  # fmt: skip
        processes = [
            subprocess.Popen(
                [sys.executable, str(WORKER), case, str(folder)],
                env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stderr=subprocess.PIPE, text=True,
            )
            for rank in range(2)
        ]  # fmt: skip
        try:
            outputs = [p.communicate(timeout=120)[1] for p in processes]
        finally:
            for process in processes:
                process.kill()
        assert [p.returncode for p in processes] == [0, 0], "\n".join(outputs)
        return Pair(
            [safetensors.torch.load_file(folder / f"rank{r}.safetensors") for r in range(2)],
            [json.loads((folder / f"rank{r}.json").read_text()) for r in range(2)],
        )

    return run


def equal(pair: Pair, prefix: str = "") -> bool:
    first, second = pair.weights
    return first.keys() == second.keys() and all(
        torch.equal(first[n], second[n]) for n in first if n.startswith(prefix)
    )


def test_alone_there_is_nothing_to_agree_on() -> None:
    barrier(ProcessGroup())
    assert average([1.0, 2.0], ProcessGroup()) == [1.0, 2.0]


def test_two_processes_train_one_network(both: Both, tmp_path: Path) -> None:
    pair = both("plain", tmp_path)
    assert equal(pair)
    assert [t["averaged"] for t in pair.told] == [[0.5, 10.0]] * 2
    assert pair.told[0]["losses"] == pair.told[1]["losses"], "losses are means over the ranks"
    assert [t["evaluated"] for t in pair.told] == [1, 0], "rank 0 alone evaluates"
    assert len(list((tmp_path / "scratch").glob("*.safetensors"))) == 2


def test_the_gradient_is_that_of_the_whole_batch(both: Both, tmp_path: Path) -> None:
    """The same epoch by one process on the combined batch, with batch norms in the way only through statistics."""
    pair = both("once", tmp_path / "two")
    config = Train(epochs=1, batch=8, lr=0.05, warmup_epochs=0, ema_decay=0.0)
    start, alone = make_net(0.0), make_net(0.0)

    def halves(model: Any, batch: Any, at: Any) -> dict[str, Tensor]:
        # batch statistics are each rank's own: rows of each rank go through the network by themselves
        parts = [
            loss(model, type(batch)(batch.images[r::2], batch.wanted[r::2]), at)["square"] for r in range(2)
        ]
        return {"square": torch.stack(parts).mean()}

    result = fit(alone, halves, config, make_env(tmp_path / "one"))
    begun = dict(start.named_parameters())
    for name, parameter in alone.named_parameters():
        found = pair.weights[0][name]
        assert torch.allclose(found, parameter, atol=1e-5), name
        moved = float((parameter - begun[name]).detach().abs().max())
        if name != "0.bias":  # a bias before a batch norm has no gradient
            assert moved > 1e-3, name
    expected = result.curves[0].losses["square"]
    assert pair.told[0]["curves"][0]["losses"]["square"] == pytest.approx(expected, rel=1e-4)


def test_nan_on_one_rank_is_skipped_on_both(both: Both, tmp_path: Path) -> None:
    pair = both("nan", tmp_path)
    assert equal(pair) and all(bool(torch.isfinite(t).all()) for t in pair.weights[0].values())
    assert [(t["skipped"], t["rollbacks"]) for t in pair.told] == [(1, 0)] * 2


def test_both_give_up_together(both: Both, tmp_path: Path) -> None:
    pair = both("always nan", tmp_path)
    assert all("StageError" in t["error"] and "3 rollbacks" in t["error"] for t in pair.told)
    assert [sum("half the learning rate" in n for n in t["notes"]) for t in pair.told] == [3, 3]


def test_two_processes_resume(both: Both, tmp_path: Path) -> None:
    whole = both("plain", tmp_path / "whole")
    stopped = both("stopped", tmp_path / "parts")
    assert all(t["error"].startswith("Stop") for t in stopped.told)
    resumed = both("plain", tmp_path / "parts")
    assert equal(resumed)
    assert all("train: resumes after epoch 1" in t["notes"] for t in resumed.told)
    for name, tensor in whole.weights[0].items():
        assert torch.equal(tensor, resumed.weights[0][name]), name


def test_helpers_are_one_too(both: Both, tmp_path: Path) -> None:
    pair = both("helper", tmp_path)
    assert equal(pair, "helper."), "the helpers of the ranks have parted"
    assert equal(pair), "the networks of the ranks have parted"
