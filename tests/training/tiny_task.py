"""A regression that trains in milliseconds: a small net, batches keyed by (seed, epoch), a task that remembers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgec.core.events import Event, Events, Note
from edgec.core.network import Network
from edgec.core.predictor import Predictor
from edgec.core.results.accuracy import Accuracy
from edgec.env import Env, World
from edgec.training.schedules import Position

STEPS = 4  # in an epoch


@dataclass(frozen=True)
class Batch:
    images: Tensor  # [n, 3, 8, 8]
    wanted: Tensor  # [n, 1, 1, 1]

    def to(self, device: str) -> Batch:
        return self

    def __len__(self) -> int:
        return len(self.images)


@dataclass
class Batches:
    """Each rank gets its rows of every batch, as a distributed sampler deals them."""

    batch: int
    seed: int
    rank: int
    world: int
    closed: bool = False

    def __len__(self) -> int:
        return STEPS

    def epoch(self, index: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        for _ in range(STEPS):
            images = torch.randn(self.batch * self.world, 3, 8, 8, generator=generator)
            rows = images[self.rank :: self.world]
            yield Batch(rows, rows.mean((1, 2, 3), keepdim=True))

    def close(self) -> None:
        self.closed = True


@dataclass
class Task:
    """Evaluates to the predictor's error on fixed images."""

    made: list[Batches] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    evaluated: list[float] = field(default_factory=list)

    name = "tiny"
    metric = "score"

    def batches(
        self, batch: int, epochs: int, seed: int, workers: int = 0, rank: int = 0, world: int = 1
    ) -> Batches:
        self.asked.append({"batch": batch, "epochs": epochs, "seed": seed, "workers": workers})
        self.made.append(Batches(batch, seed, rank, world))
        return self.made[-1]

    def losses(self, outputs: Tensor, batch: Batch, net: nn.Module) -> dict[str, Tensor]:
        error = outputs - batch.wanted
        return {"square": error.square().mean(), "absolute": 0.1 * error.abs().mean()}

    def contract(self, net: nn.Module) -> dict[str, Any]:
        return {}

    def evaluate(self, predictor: Predictor, split: str, limit: int | None = None) -> Accuracy:
        images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(5))
        error = torch.from_numpy(predictor.run(images.numpy())[0]) - images.mean((1, 2, 3), keepdim=True)
        self.evaluated.append(float(error.square().mean()))
        values = {"score": -self.evaluated[-1], "split_is_val": float(split == "val")}
        return Accuracy(values=values, by_set={"score": {"first": 0.25}})


class Net(nn.Sequential):
    """Convolution, batch norm, dropout (so that torch's random state matters), convolution."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(6, 1, 8),
        )


def make_net(dropout: float = 0.2) -> Net:
    """The same net every time; torch's random state is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(dropout)


def make_env(folder: Path, world: World | None = None, heard: list[Event] | None = None) -> Env:
    for name in ("scratch", "out"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    events = Events(listeners=() if heard is None else (heard.append,))
    return Env(
        Task(), "train", events, Network("none"), folder / "scratch", folder / "out", world=world or World()
    )  # type: ignore[arg-type]


def notes(heard: list[Event]) -> list[str]:
    return [event.message for event in heard if isinstance(event, Note)]


def loss(model: nn.Module, batch: Batch, at: Position) -> dict[str, Tensor]:
    return {"square": (model(batch.images) - batch.wanted).square().mean()}


class Stop(Exception):
    """A process that dies."""


class StopAt:
    """The loss, until a step is reached."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, model: nn.Module, batch: Batch, at: Position) -> dict[str, Tensor]:
        if at.step == self.step:
            raise Stop
        return loss(model, batch, at)


def same(a: nn.Module, b: nn.Module) -> bool:
    """Equal to the bit."""
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def finite(net: nn.Module) -> bool:
    return all(bool(torch.isfinite(t).all()) for t in net.state_dict().values())
