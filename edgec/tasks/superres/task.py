"""The super-resolution task: data, loss, metrics and pictures behind `env.Task`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, cast

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from edgec.core.contract.superres import SuperresContract, SuperresInput
from edgec.core.errors import DataError, NetworkError, Problem
from edgec.core.events import Events
from edgec.core.files import sha256_of
from edgec.core.metric import Metric
from edgec.core.predictor import Predictor
from edgec.core.results.accuracy import Accuracy
from edgec.core.table import dotted
from edgec.images.bicubic import bicubic_up
from edgec.recipe import Export, NetworkSource, Recipe, SuperresData
from edgec.recipe.data import DATA
from edgec.tasks.batches import KeyedBatches
from edgec.tasks.protocol import Picture, Split
from edgec.tasks.superres import photographs
from edgec.tasks.superres.draw import compared, encode_png, joints_of, panels_in_a_row
from edgec.tasks.superres.metrics import Score, score, summary
from edgec.tasks.superres.pairs import Pair
from edgec.tasks.superres.patches import OpenedPairs, mirrored, superres_batches
from edgec.tiles.contract import Prepared, as_input, tiles_of, upscaled

PairReader = Callable[[Any, str], tuple[list[Pair], list[Problem]]]  # (data, split), see DataSpec.reader


class SuperResolution:
    """env.Task for networks that enlarge images.

    A network gives one tensor [n, 3, factor * h, factor * w], and has the attributes `factor`, `multiple` and `radius`.
    """

    name = "superres"
    metric = "psnr"
    metrics = (Metric("psnr", "PSNR", "dB", 3, small_drop=0.05), Metric("ssim", "SSIM"))

    def __init__(self, data: SuperresData, seed: int, events: Events | None = None) -> None:
        self.data, self.seed = data, seed
        self.events = events or Events()
        self._opened: dict[str, OpenedPairs] = {}
        self.opened("train")
        self.opened("val")

    # --- data

    def splits(self) -> tuple[Split, ...]:
        present = getattr(self.data, "test", None) is not None
        return ("train", "val", "test") if present else ("train", "val")

    def size(self, split: Split) -> int:
        return len(self.opened(split))

    def opened(self, split: Split) -> OpenedPairs:
        """The checked pairs of a split. Raises DataError that lists every problem."""
        if split not in self._opened:
            self._opened[split] = OpenedPairs(self._load(split))
        return self._opened[split]

    def _load(self, split: Split) -> list[Pair]:
        read: PairReader = dotted(DATA.row(self.data.format).reader)
        pairs, problems = read(self.data, split)
        if problems and self.data.problems == "error":
            remedy = "fix them, or set data.problems: skip"
            raise DataError([*problems, Problem(f"data.{split}", f"{len(problems)} problems", remedy)])
        for problem in problems:
            self.events.note(f"left out: {problem}", level="warning")
        if not pairs:
            remedy = "check data.root and the sets' folders"
            raise DataError([Problem(f"data.{split}", "holds no usable image", remedy)])
        return pairs

    @cached_property
    def _digest(self) -> str:
        # not where the files lie: what is in them follows
        settings = self.data.model_dump(mode="json", exclude=set(DATA.row(self.data.format).places))
        digest = hashlib.sha256(json.dumps([settings, photographs.VERSION]).encode())
        for split in self.splits():
            for pair in self.opened(split).pairs:
                digest.update(f"{split} {pair.set} {pair.name}".encode())
                for path in pair.files():
                    digest.update(sha256_of(path).encode())
        return digest.hexdigest()

    def digest(self) -> str:
        return self._digest

    # --- network

    def network_args(self, source: NetworkSource) -> dict[str, Any]:
        args: dict[str, Any] = dict(source.args)
        if source.anchors != "own":
            message = "anchors are for detectors"
            raise DataError([Problem("network.anchors", message, "leave it out")])
        if ":" not in source.arch:
            args.setdefault("scale", self.data.scale)
        return args

    def example(self) -> Tensor:
        return torch.zeros(1, 3, *self._input())

    def _input(self) -> tuple[int, int]:
        """Height and width of an input of the network: data.input is that of the low resolution."""
        height, width = self.data.input
        return height * self._grown, width * self._grown

    @property
    def _grown(self) -> int:
        """By how much an image is enlarged before it goes into the network."""
        return self.data.scale if self.data.enlarged else 1

    def _prepare(self, low: np.ndarray) -> np.ndarray:
        """What goes into a network, float32 [3, h, w], of an image uint8 [h, w, 3], as in the contract."""
        return as_input(low, self._grown, self.data.peak / 255)

    def contract(self, net: nn.Module, config: Export | None = None) -> SuperresContract:
        names = ("factor", "multiple", "radius")
        sizes = {n: value for n in names if isinstance(value := getattr(net, n, None), int)}
        if lacking := [n for n in names if n not in sizes]:
            raise NetworkError(
                f"a {type(net).__name__} needs a whole number {', '.join(lacking)}; see docs/your-own-network.md"
            )
        wanted = 1 if self.data.enlarged else self.data.scale
        if sizes["factor"] != wanted:
            message = (
                f"{self.data.scale}, enlarged {self.data.enlarged}; the network enlarges by {sizes['factor']}"
            )
            raise DataError([Problem("data.scale", message, "give the network's scale, or another network")])
        if any(side % sizes["multiple"] for side in self._input()):
            message = f"the network's input would be {list(self._input())}, it takes multiples of {sizes['multiple']}"
            raise DataError([Problem("data.input", message, "change it")])
        return SuperresContract(
            input=SuperresInput(name="images", shape=(1, 3, *self._input()), scale=self.data.peak / 255),
            outputs=("image",),
            dynamic_size=True,
            scale=self.data.scale,
            enlarged=self.data.enlarged,
            factor=sizes["factor"],
            multiple=sizes["multiple"],
            radius=sizes["radius"],
        )

    # --- export

    def tail(self, net: nn.Module, config: Export) -> tuple[Callable[[Any], Any] | None, list[str]]:
        if config.output == "boxes":
            remedy = "leave output out"
            raise DataError([Problem("export.output", "boxes are for detectors", remedy)])
        return None, ["image"]

    def finish(self, model: onnx.ModelProto, config: Export) -> onnx.ModelProto:
        return model

    # --- training

    def batches(
        self, batch: int, epochs: int, seed: int, workers: int = 0, rank: int = 0, world: int = 1
    ) -> KeyedBatches:
        return superres_batches(
            self.opened("train"), self.data, self._prepare, batch, seed, workers, rank, world
        )

    def losses(self, outputs: Any, batch: Any, net: nn.Module) -> dict[str, Tensor]:
        """The mean absolute difference, with white as 1."""
        return {"l1": (outputs - batch.targets).abs().mean() / self.data.peak}

    def knowledge(self, outputs: Any, net: nn.Module) -> dict[str, list[Tensor]]:
        return {"output": [outputs / self.data.peak]}

    def regions(self, batch: Any, size: tuple[int, int]) -> Tensor:
        return torch.ones(len(batch), *size, device=batch.images.device)

    # --- evaluation

    def images(self, split: Split, count: int) -> np.ndarray:
        """Patches of data.input low-resolution pixels, in turn from all images and from all over each, prepared."""
        opened = self.opened(split)
        height, width = self.data.input
        chosen: list[np.ndarray] = []
        for k in range(count):
            low, _ = opened[k % len(opened)]
            low = mirrored(low, height, width)
            rng = np.random.default_rng((self.seed, k))
            top, left = (
                int(rng.integers(int(h) - s + 1)) for h, s in zip(low.shape, (height, width), strict=False)
            )
            chosen.append(self._prepare(low[top : top + height, left : left + width]))
        return np.stack(chosen)

    def evaluate(self, predictor: Predictor, split: Split, limit: int | None = None) -> Accuracy:
        """PSNR and SSIM of whole images, as in `metrics.summary`."""
        opened = self.opened(split)
        count = len(opened) if limit is None else min(limit, len(opened))
        advance = self.events.progress(f"evaluating on {split}")
        scores: list[Score] = []
        for index in range(count):
            pair = opened.pairs[index]
            low, high = opened[index]
            scores.append(score(pair.set, pair.name, upscaled(predictor, low), high, self.data.scale))
            advance(index + 1, count)
        return summary(scores)

    def pictures(self, predictors: Mapping[str, Predictor], count: int) -> list[Picture]:
        """Of each image the place where the last predictor errs most: bicubic, all predictors, the truth, the error,
        and what tiles of data.input change.
        """
        opened = self.opened("val")
        pictures: list[Picture] = []
        for index in sorted({int(i) for i in np.linspace(0, len(opened) - 1, min(count, len(opened)))}):
            low, high = opened[index]
            made = {"bicubic": bicubic_up(low, self.data.scale)}
            made |= {name: upscaled(predictor, low) for name, predictor in predictors.items()}
            shipped = list(predictors.values())[-1]
            tiles = upscaled(shipped, low, self._input())
            contract = SuperresContract.of(shipped.contract, shipped.name)
            grid = tiles_of(Prepared(low, contract), self._input())
            joints = joints_of(grid, contract.factor)
            pair = opened.pairs[index]
            data = encode_png(panels_in_a_row(compared(made, high, tiles, self.data.scale, joints)))
            caption = (
                f"{pair.set}/{pair.name}, where the last network errs most: {', '.join(made)}, the original"
            )
            pictures.append(
                Picture(pair.name, f"{caption}, the error, and what tiles change", data, "image/png")
            )
        return pictures


def superres_of(recipe: Recipe, events: Events | None) -> SuperResolution:
    """The task of a recipe. Raises DataError that lists every problem of its data."""
    return SuperResolution(cast(SuperresData, recipe.data), recipe.seed, events)
