"""One of the processes of a test: `python ddp_worker.py CASE FOLDER`, with RANK and WORLD_SIZE set."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.distributed as dist
from tiny_task import StopAt, loss, make_env, make_net
from torch import Tensor, nn

from edgec.core.events import EpochEnded, Event, Note
from edgec.env import ProcessGroup
from edgec.recipe import Train
from edgec.training.distributed import average, barrier, init_from_environment
from edgec.training.fit import fit


class Nan:
    """A loss that is NaN on rank 1 alone."""

    def __init__(self, rank: int, steps: range) -> None:
        self.rank, self.steps = rank, steps

    def __call__(self, model: nn.Module, batch: Any, at: Any) -> dict[str, Tensor]:
        bad = self.rank == 1 and at.step in self.steps
        return {"square": loss(model, batch, at)["square"] * (float("nan") if bad else 1.0)}


class Helped:
    def __init__(self, helper: nn.Module) -> None:
        self.helper = helper

    def __call__(self, model: nn.Module, batch: Any, at: Any) -> dict[str, Tensor]:
        return {"square": (self.helper(model(batch.images)) - batch.wanted).square().mean()}


def main(case: str, folder: Path) -> None:
    torch.set_num_threads(1)
    process_group = init_from_environment("cpu")
    assert process_group == ProcessGroup(dist.get_rank(), dist.get_world_size())
    averaged = average([float(process_group.rank), 10.0], process_group)
    heard: list[Event] = []
    env = make_env(folder, process_group, heard)
    net, helper = make_net(0.0), None
    config = Train(epochs=2, batch=4, lr=0.05, warmup_epochs=0, ema_decay=0.9)
    call: Any = loss
    match case:
        case "once":
            config = config.model_copy(update={"epochs": 1, "ema_decay": 0.0})
        case "nan":
            call = Nan(process_group.rank, range(2, 3))
        case "always nan":
            call = Nan(process_group.rank, range(0, 1000))
        case "stopped":
            call = StopAt(6)
        case "helper":
            torch.manual_seed(3)
            helper = nn.Linear(1, 1)
            config = config.model_copy(update={"clip_norm": 0.05})
            call = Helped(helper)
        case _:
            pass
    told: dict[str, Any] = {"averaged": averaged}
    try:
        result = fit(net, call, config, env, helpers=helper)
        told |= {
            "curves": [epoch.model_dump(mode="json") for epoch in result.curves],
            "skipped": result.skipped_steps,
            "rollbacks": result.rollbacks,
        }
    except Exception as error:
        told["error"] = f"{type(error).__name__}: {error}"
    told["notes"] = [e.message for e in heard if isinstance(e, Note)]
    told["losses"] = [dict(e.losses) for e in heard if isinstance(e, EpochEnded)]
    told["evaluated"] = len(env.task.evaluated)  # type: ignore[attr-defined]
    weights = {n: t.detach().contiguous() for n, t in net.named_parameters()}
    if helper is not None:
        weights |= {f"helper.{n}": t.detach() for n, t in helper.named_parameters()}
    safetensors.torch.save_file(weights, folder / f"rank{process_group.rank}.safetensors")
    (folder / f"rank{process_group.rank}.json").write_text(json.dumps(told))
    if case == "stopped":
        os._exit(0)  # killed: it takes leave of nobody
    barrier(process_group)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
