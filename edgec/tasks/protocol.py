"""The protocol of a task: what a network is for, with its data, losses, metrics and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import onnx
from torch import Tensor, nn

from edgec.core.contract.base import Contract
from edgec.core.metric import Metric
from edgec.core.predictor import Predictor
from edgec.core.results.accuracy import Accuracy
from edgec.core.session import Array
from edgec.recipe import Export, NetworkSource

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Picture:
    """A picture for the report."""

    name: str
    caption: str
    data: bytes  # JPEG or PNG
    mime: str = "image/jpeg"


class Batches(Protocol):
    """The training data: epoch by epoch, the same for the same (seed, epoch)."""

    def __len__(self) -> int:
        """Steps in an epoch, on this rank."""
        ...

    def epoch(self, index: int) -> Iterator[Any]: ...

    def close(self) -> None: ...


class Data(Protocol):
    """The images of a task, by split."""

    def digest(self) -> str:
        """sha256 of everything in the data and the task's settings that a stage's result depends on."""
        ...

    def splits(self) -> tuple[Split, ...]:
        """The splits that the data has: train, val and perhaps test."""
        ...

    def size(self, split: Split) -> int:
        """Number of images of a split, after bad ones were left out."""
        ...

    def images(self, split: Split, count: int) -> Array:
        """The first `count` prepared inputs of a split, float32 [n, channels, h, w], without augmentation."""
        ...


class Building(Protocol):
    """What a network for the task must fit."""

    def network_args(self, source: NetworkSource) -> dict[str, Any]:
        """The arguments of the architecture, completed from the data (classes, anchors)."""
        ...

    def example(self) -> Tensor:
        """A zero input of the network, [1, channels, h, w]."""
        ...


class Training(Protocol):
    """What a network learns from."""

    def batches(
        self, batch: int, epochs: int, seed: int, workers: int = 0, rank: int = 0, world: int = 1
    ) -> Batches: ...

    def losses(self, outputs: Any, batch: Any, net: nn.Module) -> dict[str, Tensor]:
        """Named scalar terms, already weighted, of the module's outputs on a batch."""
        ...


class Teaching(Protocol):
    """What distillers compare between a student and its teacher."""

    def knowledge(self, outputs: Any, net: nn.Module) -> dict[str, list[Tensor]]:
        """The outputs taken apart for distillers.

        Detection, one tensor a head: "classes" [n, a, h, w, c] logits, "objectness" [n, a, h, w] logits,
        "boxes" [n, a, h, w, 4] as (x, y, w, h) in units of the stride.
        """
        ...

    def regions(self, batch: Any, size: tuple[int, int]) -> Tensor:
        """Mask [n, h, w] in 0..1 of where objects are, at a feature map's size; ones where there are no boxes."""
        ...


class Evaluation(Protocol):
    """How good a predictor is, in figures and in pictures."""

    metric: str  # the headline metric, higher is better, e.g. "map50"
    metrics: tuple[Metric, ...]  # what reports show: the headline first

    def evaluate(self, predictor: Predictor, split: Split, limit: int | None = None) -> Accuracy:
        """The accuracy on the first `limit` images of a split, or on all of them."""
        ...

    def pictures(self, predictors: Mapping[str, Predictor], count: int) -> list[Picture]:
        """At most `count` pictures that show what the named predictors do on the same images."""
        ...


class Describing(Protocol):
    """What a user of a network must know."""

    def contract(self, net: nn.Module, config: Export | None = None) -> Contract:
        """What a device must know to use the network: input, scaling, classes, decoding; or to use what `config` exports.

        `dynamic_size` says that images come in their own sizes, so that graphs that are only measured must take any.
        """
        ...


class Exporting(Describing, Protocol):
    """What an exported graph has behind the network."""

    def tail(self, net: nn.Module, config: Export) -> tuple[Callable[[Any], Any] | None, list[str]]:
        """What an exported graph computes from the network's outputs (decoding), and the names of its outputs."""
        ...

    def finish(self, model: onnx.ModelProto, config: Export) -> onnx.ModelProto:
        """Append to an exported graph what torch cannot express (non-maximum suppression)."""
        ...


class Task(Data, Building, Training, Teaching, Evaluation, Exporting, Protocol):
    """What the network is for: all of the above. A function that needs one part of it asks for that part alone."""

    name: str
