"""A task of its own: to tell the mean brightness of an image of 8 x 8 pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from edgec.core.contract.base import ImageInput
from edgec.core.events import Events
from edgec.core.metric import Metric
from edgec.core.predictor import Predictor
from edgec.core.results.accuracy import Accuracy
from edgec.core.session import Array
from edgec.recipe import Export, NetworkSource, Recipe
from edgec.tasks.protocol import Picture, Split
from toy_edgec.rows import BrightnessContract, NoiseData

SIDE = 8


@dataclass(frozen=True)
class Batch:
    images: Tensor  # [n, 3, 8, 8]
    wanted: Tensor  # [n, 1, 1, 1]

    def to(self, device: str) -> Batch:
        return Batch(self.images.to(device), self.wanted.to(device))

    def __len__(self) -> int:
        return len(self.images)


@dataclass
class Batches:
    batch: int
    seed: int

    def __len__(self) -> int:
        return 2

    def epoch(self, index: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        for _ in range(len(self)):
            images = torch.rand(self.batch, 3, SIDE, SIDE, generator=generator)
            yield Batch(images, images.mean((1, 2, 3), keepdim=True))

    def close(self) -> None:
        pass


@dataclass
class Brightness:
    data: NoiseData

    name = "brightness"
    metric = "score"
    metrics = (Metric("score", "score"),)

    def digest(self) -> str:
        return hashlib.sha256(self.data.model_dump_json().encode()).hexdigest()

    def splits(self) -> tuple[Split, ...]:
        return ("train", "val")

    def size(self, split: Split) -> int:
        return self.data.images

    def network_args(self, source: NetworkSource) -> dict[str, Any]:
        return dict(source.args)

    def example(self) -> Tensor:
        return torch.zeros(1, 3, SIDE, SIDE)

    def contract(self, net: nn.Module, config: Export | None = None) -> BrightnessContract:
        return BrightnessContract(input=ImageInput(name="images", shape=(1, 3, SIDE, SIDE), scale=1 / 255))

    def tail(self, net: nn.Module, config: Export) -> tuple[Callable[[Any], Any] | None, list[str]]:
        return None, ["brightness"]

    def finish(self, model: onnx.ModelProto, config: Export) -> onnx.ModelProto:
        return model

    def batches(
        self, batch: int, epochs: int, seed: int, workers: int = 0, rank: int = 0, world: int = 1
    ) -> Batches:
        return Batches(batch, seed)

    def losses(self, outputs: Any, batch: Batch, net: nn.Module) -> dict[str, Tensor]:
        return {"square": (outputs - batch.wanted).square().mean()}

    def knowledge(self, outputs: Any, net: nn.Module) -> dict[str, list[Tensor]]:
        return {}

    def regions(self, batch: Batch, size: tuple[int, int]) -> Tensor:
        return torch.ones(len(batch), *size)

    def images(self, split: Split, count: int) -> Array:
        return np.random.default_rng(0).random((count, 3, SIDE, SIDE), dtype=np.float32)

    def evaluate(self, predictor: Predictor, split: Split, limit: int | None = None) -> Accuracy:
        scale = BrightnessContract.of(predictor.contract, predictor.name).input.scale
        errors = [
            abs(float(predictor.run(255 * scale * image[None])[0].squeeze()) - float(image.mean()))
            for image in self.images(split, self.data.images)
        ]
        return Accuracy(values={"score": 1 - float(np.mean(errors))}, counts={"images": self.data.images})

    def pictures(self, predictors: Mapping[str, Predictor], count: int) -> list[Picture]:
        return []


def brightness_of(recipe: Recipe, events: Events | None) -> Brightness:
    return Brightness(cast(NoiseData, recipe.data))
