"""A regression that trains in milliseconds: a small net, batches keyed by (seed, epoch), a task that remembers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from edgec.core.events import Event, Note
from edgec.core.network import Network
from edgec.core.predictor import Predictor
from edgec.core.results.accuracy import Accuracy
from edgec.env import Env, ProcessGroup
from edgec.tasks.protocol import Split
from edgec.testing import STEPS as STEPS
from edgec.testing import TinyBatch, TinyBatches, TinyTask, env_for, tiny_net
from edgec.training.schedules import Position


@dataclass
class Task(TinyTask):
    """Remembers what it was asked, and evaluates to more than one figure."""

    made: list[TinyBatches] = field(default_factory=list[TinyBatches])
    asked: list[dict[str, int]] = field(default_factory=list[dict[str, int]])
    evaluated: list[float] = field(default_factory=list[float])

    def batches(
        self, batch: int, epochs: int, seed: int, workers: int = 0, rank: int = 0, world: int = 1
    ) -> TinyBatches:
        self.asked.append({"batch": batch, "epochs": epochs, "seed": seed, "workers": workers})
        self.made.append(super().batches(batch, epochs, seed, workers, rank, world))
        return self.made[-1]

    def evaluate(self, predictor: Predictor, split: Split, limit: int | None = None) -> Accuracy:
        score = super().evaluate(predictor, split, limit)["score"]
        self.evaluated.append(-score)
        values = {"score": score, "split_is_val": float(split == "val")}
        return Accuracy(values=values, by_set={"score": {"first": 0.25}})


def make_net(dropout: float = 0.2) -> nn.Module:
    """The same net every time; torch's random state is left as it was. With dropout that state matters."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tiny_net(dropout=dropout)


def make_env(
    folder: Path, process_group: ProcessGroup | None = None, heard: list[Event] | None = None
) -> Env:
    listeners = () if heard is None else (heard.append,)
    return env_for(
        Task(), folder, stage="train", dense=Network("none"), listeners=listeners, process_group=process_group
    )


def notes(heard: list[Event]) -> list[str]:
    return [event.message for event in heard if isinstance(event, Note)]


def loss(model: nn.Module, batch: TinyBatch, at: Position) -> dict[str, Tensor]:
    return {"square": (model(batch.images) - batch.wanted).square().mean()}


class Stop(Exception):
    """A process that dies."""


class StopAt:
    """The loss, until a step is reached."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, model: nn.Module, batch: TinyBatch, at: Position) -> dict[str, Tensor]:
        if at.step == self.step:
            raise Stop
        return loss(model, batch, at)


def same(a: nn.Module, b: nn.Module) -> bool:
    """Equal to the bit."""
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def finite(net: nn.Module) -> bool:
    return all(bool(torch.isfinite(t).all()) for t in net.state_dict().values())
