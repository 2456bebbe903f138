"""What a stage is given besides its config and the network, and the task behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from edgec.events import Events
from edgec.network import Network
from edgec.outputs import tensors_of
from edgec.recipe import Export, NetworkSource

Split = Literal["train", "val", "test"]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Predictor:
    """Numpy in, numpy out: a torch module or an artifact in its runtime, with the contract of its outputs.

    `run` takes images float32 [n, 3, h, w] and gives the network's outputs, in order.
    `batch` is the batch size that it insists on, or None for any.
    """

    run: Callable[[Array], list[Array]]
    contract: Mapping[str, Any]
    batch: int | None = None


@dataclass(frozen=True)
class Picture:
    """A picture for the report."""

    name: str
    caption: str
    data: bytes  # JPEG or PNG
    mime: str = "image/jpeg"


@dataclass(frozen=True)
class Metric:
    """A figure of `Task.evaluate` that reports show, higher is better."""

    name: str  # its key
    title: str
    unit: str = ""
    digits: int = 4  # after the point
    share: bool = False  # of 1: changes are told in points, hundredths of it


class Batches(Protocol):
    """The training data: epoch by epoch, the same for the same (seed, epoch)."""

    def __len__(self) -> int:
        """Steps in an epoch, on this rank."""
        ...

    def epoch(self, index: int) -> Iterator[Any]: ...

    def close(self) -> None: ...


class Task(Protocol):
    """What the network is for."""

    name: str
    metric: str  # the headline metric, higher is better, e.g. "map50"
    metrics: tuple[Metric, ...]  # what reports show: the headline first
    any_size: bool  # `evaluate` gives images of their own sizes, so graphs that are only measured take any

    def digest(self) -> str:
        """sha256 of everything in the data and the task's settings that a stage's result depends on."""
        ...

    def splits(self) -> tuple[Split, ...]:
        """The splits that the data has: train, val and perhaps test."""
        ...

    def size(self, split: Split) -> int:
        """Number of images of a split, after bad ones were left out."""
        ...

    def network_args(self, source: NetworkSource) -> dict[str, Any]:
        """The arguments of the architecture, completed from the data (classes, anchors)."""
        ...

    def example(self) -> Tensor:
        """A zero input of the network, [1, channels, h, w]."""
        ...

    def contract(self, net: nn.Module) -> dict[str, Any]:
        """What a device must know to use the network: input, scaling, classes, decoding."""
        ...

    def tail(self, net: nn.Module, config: Export) -> tuple[Callable[[Any], Any] | None, list[str]]:
        """What an exported graph computes from the network's outputs (decoding), and the names of its outputs."""
        ...

    def finish(self, model: onnx.ModelProto, config: Export) -> onnx.ModelProto:
        """Append to an exported graph what torch cannot express (non-maximum suppression)."""
        ...

    def batches(
        self, batch: int, epochs: int, seed: int, workers: int = 0, rank: int = 0, world: int = 1
    ) -> Batches: ...

    def losses(self, outputs: Any, batch: Any, net: nn.Module) -> dict[str, Tensor]:
        """Named scalar terms, already weighted, of the module's outputs on a batch."""
        ...

    def knowledge(self, outputs: Any, net: nn.Module) -> dict[str, list[Tensor]]:
        """The outputs taken apart for distillers.

        Detection, one tensor a head: "classes" [n, a, h, w, c] logits, "objectness" [n, a, h, w] logits,
        "boxes" [n, a, h, w, 4] as (x, y, w, h) in units of the stride.
        """
        ...

    def regions(self, batch: Any, size: tuple[int, int]) -> Tensor:
        """Mask [n, h, w] in 0..1 of where objects are, at a feature map's size; ones where there are no boxes."""
        ...

    def images(self, split: Split, count: int) -> Array:
        """The first `count` prepared inputs of a split, float32 [n, channels, h, w], without augmentation."""
        ...

    def evaluate(self, predictor: Predictor, split: Split, limit: int | None = None) -> dict[str, float]: ...

    def pictures(self, predictors: Mapping[str, Predictor], count: int) -> list[Picture]: ...


@dataclass(frozen=True)
class World:
    """The processes that train together."""

    rank: int = 0
    size: int = 1


@dataclass(frozen=True)
class Env:
    """Everything that a stage is given besides its config and the network."""

    task: Task
    stage: str  # name of the stage in the recipe
    events: Events
    dense: Network  # the network before compression: default teacher and baseline
    scratch: Path  # survives an interruption; for checkpoints of this very stage
    out: Path  # files written here become part of the stage's result
    inputs: Path | None = None  # files that the export before this stage made
    device: str = "cpu"
    seed: int = 0
    world: World = field(default_factory=World)
    allow_code: bool = False


def torch_predictor(
    net: nn.Module, task: Task, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Predictor:
    """The predictor of a torch module, in eval mode, on a device, computing in `dtype`."""
    contract = task.contract(net)
    net = net.to(device, dtype).eval()

    @torch.inference_mode()
    def run(images: Array) -> list[Array]:
        outputs = net(torch.from_numpy(images).to(device, dtype))
        return [output.float().cpu().numpy() for output in tensors_of(outputs)]

    return Predictor(run, contract)
