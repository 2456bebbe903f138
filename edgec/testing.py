"""For tests of your own stages, distillers and runtimes: a task that trains in milliseconds, its network, and an environment;
a whole recipe that runs in seconds; and a runtime that computes nothing.

    def test_my_stage(tmp_path):
        env = env_for(TinyTask(), tmp_path)
        network, metrics = my_stage(MyConfig(kind="mine"), env.dense, env)

Everything is deterministic: the same seed gives the same batches, weights and accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx
import torch
from torch import Tensor, nn

from edgec.core.contract.base import Contract, ImageInput
from edgec.core.events import Events, Listener
from edgec.core.extensions import added
from edgec.core.metric import Metric
from edgec.core.network import Network
from edgec.core.predictor import Predictor
from edgec.core.results.accuracy import Accuracy
from edgec.core.runtimes import RuntimeSpec
from edgec.core.session import Array
from edgec.env import Env, ProcessGroup
from edgec.recipe import Export, NetworkSource
from edgec.tasks.protocol import Picture, Split

SIDE = 8  # pixels of an image
STEPS = 4  # steps in an epoch
IMAGES = 16  # of each split


class TinyContract(Contract, frozen=True):
    """Of a network [n, 3, 8, 8] -> [n, 1, 1, 1]."""

    task: Literal["tiny"] = "tiny"
    input: ImageInput


@dataclass(frozen=True)
class TinyBatch:
    """Images and the means that the network is to predict."""

    images: Tensor  # [n, 3, 8, 8]
    wanted: Tensor  # [n, 1, 1, 1]; whatever the losses of your own task compare outputs with

    def to(self, device: str) -> TinyBatch:
        return TinyBatch(self.images.to(device), self.wanted.to(device))

    def __len__(self) -> int:
        return len(self.images)


@dataclass
class TinyBatches:
    """Four batches per epoch, the same for the same (seed, epoch); each rank gets its rows of every batch.

    A subclass that draws others overrides `epoch`, and `steps` where there are more or fewer.
    """

    batch: int
    seed: int = 0
    rank: int = 0
    world: int = 1
    closed: bool = False
    steps: int = STEPS  # in an epoch
    side: int = SIDE

    def __len__(self) -> int:
        return self.steps

    def epoch(self, index: int) -> Iterator[TinyBatch]:
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        for _ in range(self.steps):
            images = torch.randn(self.batch * self.world, 3, self.side, self.side, generator=generator)
            rows = images[self.rank :: self.world]
            yield TinyBatch(rows, _mean(rows))

    def close(self) -> None:
        self.closed = True


class TinyTask:
    """A regression: the mean of an image. Implements `edgec.tasks.protocol.Task`; override what your test is about."""

    name: str = "tiny"
    metric: str = "score"
    metrics: tuple[Metric, ...] = (Metric("score", "score", "", 4),)
    side: int = SIDE  # pixels of an image

    def digest(self) -> str:
        return "tiny"

    def splits(self) -> tuple[Split, ...]:
        return ("train", "val")

    def size(self, split: Split) -> int:
        return IMAGES

    def network_args(self, source: NetworkSource) -> dict[str, Any]:
        return dict(source.args)

    def example(self) -> Tensor:
        return torch.zeros(1, 3, self.side, self.side)

    def contract(self, net: nn.Module, config: Export | None = None) -> Contract:
        shape = (1, 3, self.side, self.side)
        return TinyContract(input=ImageInput(name="images", shape=shape, scale=1 / 255), outputs=("mean",))

    def tail(self, net: nn.Module, config: Export) -> tuple[Callable[[Any], Any] | None, list[str]]:
        return None, ["mean"]

    def finish(self, model: onnx.ModelProto, config: Export) -> onnx.ModelProto:
        return model

    def batches(
        self, batch: int, epochs: int, seed: int, workers: int = 0, rank: int = 0, world: int = 1
    ) -> TinyBatches:
        return TinyBatches(batch, seed, rank, world, side=self.side)

    def losses(self, outputs: Any, batch: TinyBatch, net: nn.Module) -> dict[str, Tensor]:
        error = outputs - batch.wanted
        return {"square": error.square().mean(), "absolute": 0.1 * error.abs().mean()}

    def knowledge(self, outputs: Any, net: nn.Module) -> dict[str, list[Tensor]]:
        return {"images": [outputs]}

    def regions(self, batch: TinyBatch, size: tuple[int, int]) -> Tensor:
        return torch.ones(len(batch), *size)

    def images(self, split: Split, count: int) -> Array:
        generator = torch.Generator().manual_seed(5)
        return torch.randn(IMAGES, 3, self.side, self.side, generator=generator)[:count].numpy()

    def evaluate(self, predictor: Predictor, split: Split, limit: int | None = None) -> Accuracy:
        """The score is the negative mean squared error; 0 is perfect."""
        images = self.images(split, limit or IMAGES)
        error = torch.tensor(predictor.run(images)[0]) - _mean(torch.tensor(images))
        return Accuracy(values={"score": -float(error.square().mean())}, counts={"images": len(images)})

    def pictures(self, predictors: Mapping[str, Predictor], count: int) -> list[Picture]:
        return []


def _mean(images: Tensor) -> Tensor:
    return images.mean((1, 2, 3), keepdim=True)


def tiny_net(channels: int = 6, dropout: float = 0.0) -> nn.Module:
    """[n, 3, 8, 8] -> [n, 1, 1, 1]: a convolution with batch norm, which can be pruned, and one that is the output."""
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Conv2d(channels, 1, SIDE),
    )


def tiny_network(seed: int = 0, channels: int = 6) -> Network:
    """The network at rest, with random weights."""
    return Network.initial("edgec.testing:tiny_net", {"channels": channels}, seed, allow_code=True)


def env_for(
    task: Any,
    folder: Path,
    *,
    stage: str = "stage",
    dense: Network | None = None,
    listeners: tuple[Listener, ...] = (),
    process_group: ProcessGroup | None = None,
    seed: int = 0,
) -> Env:
    """What a stage is given, with its two folders under `folder`. `task` has what the stage asks for; `TinyTask` has all.

    `dense`: the network before compression, by itself a tiny one.
    """
    for name in ("scratch", "out"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return Env(
        task=task,
        stage=stage,
        events=Events(listeners=listeners),
        dense=dense or tiny_network(),
        scratch=folder / "scratch",
        out=folder / "out",
        seed=seed,
        process_group=process_group or ProcessGroup(),
        allow_code=True,
    )


def tiny_recipe() -> dict[str, Any]:
    """A recipe with every stage of a detector, on a handful of built-in images; the accuracy is not the point.

    A fresh mapping each time, for `edgec.load` and `edgec.compress`; change what your test is about:

        recipe = tiny_recipe()
        recipe["stages"] = {"prune": {"ratio": 0.3}, "mine": {"kind": "mine"}}
        run = edgec.compress(recipe, run=tmp_path / "run")
    """
    training = {"batch": 8, "optimizer": "adamw", "lr": 0.002}
    terms = [{"kind": "spatial_attention"}, {"kind": "logits"}]
    latency = {"min_seconds": 0.05, "max_seconds": 0.1, "warmup_seconds": 0.0}
    return {
        "name": "tiny",
        "task": "detection",
        "data": {"format": "signs", "input": [96, 96], "train": 16, "val": 4, "photograph_size": 128},
        "network": {"arch": "yolov4_tiny", "args": {"width": 0.25}, "anchors": "kmeans"},
        "stages": {
            "train": {"epochs": 2, **training},
            "sparsify": {"epochs": 1, **training},
            "prune": {"keep_params": 0.6, "recalibrate_batches": 1},
            "distill": {"epochs": 1, **training, "terms": terms},
            "quantize": {"images": 8, "sensitivity_images": 2, "max_drop": 1.0},
            "export": {},
            "profile": {"processes": 1, "threads": [1], "runtimes": ["onnxruntime"], **latency},
        },
        "pictures": 1,
    }


@contextmanager
def null_runtime() -> Generator[str]:
    """Inside the block, recipes know a runtime that reads a file and computes nothing; yields its name.

    For tests of what is done with latencies, where the file need not be a network:

        with null_runtime() as name:
            config = Profile(runtimes=(name,), threads=(1,))
    """
    with added("edgec.runtimes", "null", RuntimeSpec("null")):
        yield "null"
