"""The detection task: data, losses, metrics, decoding and pictures behind `env.Task`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from edgec.core.architectures import shipped_archs, strides_of
from edgec.core.contract.detection import DetectionContract, DetectionInput, Fit
from edgec.core.errors import DataError, Problem
from edgec.core.events import Events
from edgec.core.files import sha256_of
from edgec.core.metric import Metric
from edgec.core.predictor import Predictor
from edgec.core.results.accuracy import Accuracy
from edgec.core.table import dotted
from edgec.recipe import DetectionData, Export, Loss, NetworkSource, Recipe, check_unique_classes
from edgec.recipe.data import DATA
from edgec.tasks.batches import KeyedBatches
from edgec.tasks.detection import signs
from edgec.tasks.detection.anchors import anchors_for_heads
from edgec.tasks.detection.contract import LEAST_SCORE, finish, scaled
from edgec.tasks.detection.decode import Detections, split_map
from edgec.tasks.detection.draw import draw_detections, encode_jpeg, side_by_side
from edgec.tasks.detection.format import DetectionFormat
from edgec.tasks.detection.graph import BOXES, SCORES, append_nms, decoder
from edgec.tasks.detection.heads import heads_of
from edgec.tasks.detection.images import PAD_VALUE, placement_of
from edgec.tasks.detection.loader import Fitted, detection_batches
from edgec.tasks.detection.loss import yolo_loss
from edgec.tasks.detection.metrics import Truth, evaluate_detections
from edgec.tasks.detection.samples import Sample, check_samples
from edgec.tasks.protocol import Picture, Split

ANCHORS_EACH = 3  # per head, when they come from the data


class Detection:
    """env.Task for detectors with YOLO heads."""

    name = "detection"
    metric = "map50"
    metrics = (
        Metric("map50", "mAP 50", share=True),
        Metric("map", "mAP 50:95", share=True),
    )

    def __init__(
        self,
        data: DetectionData,
        loss: Loss,
        seed: int,
        events: Events | None = None,
    ) -> None:
        self.data, self.loss, self.seed = data, loss, seed
        self.events = events or Events()
        self._samples: dict[str, list[Sample]] = {}
        self._fitted: dict[tuple[Split, tuple[int, int], Fit, int], Fitted] = {}
        problems = check_unique_classes(self.classes, "data.classes")
        if problems:
            raise DataError(problems)
        self.samples("train")
        self.samples("val")

    # --- data

    @cached_property
    def classes(self) -> tuple[str, ...]:
        return self._format.classes(self.data)

    @cached_property
    def _format(self) -> DetectionFormat:
        return cast(DetectionFormat, dotted(DATA.row(self.data.format).reader))

    def splits(self) -> tuple[Split, ...]:
        return ("train", "val", "test") if self.data.test is not None else ("train", "val")

    def size(self, split: Split) -> int:
        return len(self.samples(split))

    def samples(self, split: Split) -> list[Sample]:
        """The checked samples of a split. Raises DataError that lists every problem."""
        if split not in self._samples:
            self._samples[split] = self._load(split)
        return self._samples[split]

    def _load(self, split: Split) -> list[Sample]:
        named: Any = getattr(self.data, split)
        if named is None:
            raise DataError([Problem(f"data.{split}", "the recipe names no such split", f"add data.{split}")])
        read = self._format.read(self.data, split)
        checked, more = check_samples(read.raws, self.classes)
        samples = [*read.samples, *checked]
        problems = [*read.problems, *more]
        if problems and self.data.problems == "error":
            raise DataError(
                [
                    *problems,
                    Problem(
                        f"data.{split}", f"{len(problems)} problems", "fix them, or set data.problems: skip"
                    ),
                ]
            )
        for problem in problems:
            self.events.note(f"left out: {problem}", level="warning")
        if not samples:
            raise DataError(
                [Problem(f"data.{split}", "holds no usable image", "check data.root and the split's name")]
            )
        return samples

    def fitted(self, split: Split, wanted: DetectionInput | None = None) -> Fitted:
        """The samples of a split, placed on the input of the recipe, or on that of a contract."""
        wanted = wanted or self.input
        key = split, wanted.size, wanted.fit, wanted.pad_value
        if key not in self._fitted:
            self._fitted[key] = Fitted(self.samples(split), wanted.size, wanted.fit, wanted.pad_value)
        return self._fitted[key]

    @cached_property
    def input(self) -> DetectionInput:
        """How images enter a network of this task: RGB in 0..1."""
        return DetectionInput(
            name="images",
            shape=(1, 3, *self.data.input),
            scale=1 / 255,
            fit=self.data.fit,
            pad_value=PAD_VALUE,
        )

    @cached_property
    def _digest(self) -> str:
        # not where the files lie: what is in them follows
        settings = self.data.model_dump(mode="json", exclude=set(DATA.row(self.data.format).places))
        digest = hashlib.sha256(json.dumps([settings, self.loss.model_dump()]).encode())
        digest.update(json.dumps([self.classes, signs.VERSION]).encode())
        for split in self.splits():
            digest.update(f"{split} {self.size(split)}".encode())
            for sample in self.samples(split):
                digest.update(
                    sample.name.encode()
                    + sample.boxes.tobytes()
                    + sample.labels.tobytes()
                    + sample.difficult.tobytes()
                )
                if isinstance(sample.image, Path):
                    digest.update(sha256_of(sample.image).encode())
        return digest.hexdigest()

    def digest(self) -> str:
        return self._digest

    # --- network

    def network_args(self, source: NetworkSource) -> dict[str, Any]:
        args: dict[str, Any] = dict(source.args)
        strides = strides_of(source.arch)
        if strides is not None:
            args.setdefault("classes", len(self.classes))
        if source.anchors == "kmeans":
            if strides is None:
                known = [arch for arch in shipped_archs() if strides_of(arch) is not None]
                message = f"anchors by k-means are known for {', '.join(known)}, not for {source.arch}"
                raise DataError([Problem("network.anchors", message, "use own, or give args")])
            args["anchors"] = anchors_for_heads(self.object_sizes(), list(strides), ANCHORS_EACH, self.seed)
        return args

    def object_sizes(self) -> np.ndarray:
        """Widths and heights [m, 2] of the training objects, in pixels of the network input."""
        boxes = [self.fitted("train")(i)[1] for i in range(self.size("train"))]
        pooled = np.concatenate(boxes)
        return pooled[:, 2:] - pooled[:, :2]

    def example(self) -> Tensor:
        return torch.zeros(1, 3, *self.data.input)

    def contract(self, net: nn.Module, config: Export | None = None) -> DetectionContract:
        heads = heads_of(net)
        wrong = [h.classes for h in heads if h.classes != len(self.classes)]
        if wrong:
            remedy = f"set network.args.classes: {len(self.classes)}, or name the classes of the network in data.classes"
            raise DataError(
                [Problem("data.classes", f"{len(self.classes)} names, the network has {wrong[0]}", remedy)]
            )
        boxes = config if config is not None and config.output == "boxes" else None
        return DetectionContract(
            input=self.input,
            output="boxes" if boxes else "raw",
            multiple=max(head.stride for head in heads),
            classes=self.classes,
            heads=heads,
            score_threshold=boxes.score_threshold if boxes else None,
        )

    # --- export

    def tail(self, net: nn.Module, config: Export) -> tuple[Callable[[Any], Any] | None, list[str]]:
        if config.output == "boxes":
            return decoder(net), [BOXES, SCORES]
        return None, [f"head{i}" for i in range(len(heads_of(net)))]

    def finish(self, model: onnx.ModelProto, config: Export) -> onnx.ModelProto:
        if config.output == "boxes":
            return append_nms(model, config.score_threshold, config.iou_threshold, config.max_detections)
        return model

    # --- training

    def batches(
        self, batch: int, epochs: int, seed: int, workers: int = 0, rank: int = 0, world: int = 1
    ) -> KeyedBatches:
        return detection_batches(
            self.fitted("train"), self.data.augment, batch, epochs, seed, workers, rank, world
        )

    def losses(self, outputs: Any, batch: Any, net: nn.Module) -> dict[str, Tensor]:
        return yolo_loss(
            outputs,
            batch.targets,
            heads_of(net),
            box_weight=self.loss.box,
            objectness_weight=self.loss.objectness,
            class_weight=self.loss.classes,
            ignore_iou=self.loss.ignore_iou,
        )

    def knowledge(self, outputs: Any, net: nn.Module) -> dict[str, list[Tensor]]:
        raws = [split_map(output, head) for output, head in zip(outputs, heads_of(net), strict=True)]
        return {
            "classes": [raw[..., 5:] for raw in raws],
            "objectness": [raw[..., 4] for raw in raws],
            "boxes": [torch.cat([raw[..., 0:2].sigmoid(), raw[..., 2:4]], -1) for raw in raws],
        }

    def regions(self, batch: Any, size: tuple[int, int]) -> Tensor:
        n, _, height, width = batch.images.shape
        mask = torch.zeros(n, *size, device=batch.images.device)
        scale = torch.tensor([size[1] / width, size[0] / height] * 2, device=mask.device)
        for row in batch.targets:
            x1, y1, x2, y2 = (row[2:6] * scale).tolist()
            mask[int(row[0]), int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = 1
        empty = mask.sum((1, 2)) == 0
        mask[empty] = 1
        return mask

    # --- evaluation

    def images(self, split: Split, count: int) -> np.ndarray:
        fitted = self.fitted(split)
        chosen = [fitted(i)[0] for i in range(min(count, len(fitted)))]
        return scaled(np.stack(chosen), self.input)

    def evaluate(self, predictor: Predictor, split: Split, limit: int | None = None) -> Accuracy:
        return evaluate_detections(*self.detections(predictor, split, limit), self.classes).accuracy()

    def detections(
        self, predictor: Predictor, split: Split, limit: int | None = None
    ) -> tuple[list[Detections], list[Truth]]:
        """What a network finds in each image of a split, and what there is, in pixels of the images."""
        samples = self.samples(split)[:limit]
        predicted: list[Detections] = []
        truths: list[Truth] = []
        size = predictor.batch or 16
        advance = self.events.progress(f"evaluating on {split}")
        for start in range(0, len(samples), size):
            group = samples[start : start + size]
            predicted += self._predict(predictor, split, start, group)
            truths += [Truth(s.boxes, s.labels, s.difficult) for s in group]
            advance(len(truths), len(samples))
        return predicted, truths

    def _predict(
        self,
        predictor: Predictor,
        split: Split,
        start: int,
        group: list[Sample],
        least: float | None = None,
    ) -> list[Detections]:
        """Detections in pixels of the images, for consecutive samples of a split, as the predictor's contract asks.

        `least`: score; None: the contract's, since a graph that suppresses by itself gives no box under its own threshold.
        """
        contract = DetectionContract.of(predictor.contract, predictor.name)
        fitted = self.fitted(split, contract.input)
        images = scaled(np.stack([fitted(start + k)[0] for k in range(len(group))]), contract.input)
        outputs = predictor.outputs(np.ascontiguousarray(images))
        placements = [placement_of(*s.size, contract.input.size, contract.input.fit) for s in group]
        if least is None:
            least = LEAST_SCORE if contract.score_threshold is None else contract.score_threshold
        detected = finish(outputs, contract, placements, least)
        return [self._by_own_classes(one, contract.classes) for one in detected]

    def _by_own_classes(self, found: Detections, classes: Sequence[str]) -> Detections:
        """Detections with the labels of the data's classes. Those of classes that the data does not have are left out."""
        if tuple(classes) == tuple(self.classes):
            return found
        numbers = np.array([self.classes.index(c) if c in self.classes else -1 for c in classes])
        if (numbers < 0).all():
            message = f"{', '.join(self.classes)}; the artifact knows {', '.join(classes)}"
            raise DataError([Problem("data.classes", message, "evaluate it on data of its own classes")])
        labels = numbers[found.labels]
        known = labels >= 0
        return Detections(found.boxes[known], found.scores[known], labels[known])

    def pictures(self, predictors: Mapping[str, Predictor], count: int) -> list[Picture]:
        samples = self.samples("val")
        order = np.argsort([-len(s.boxes) for s in samples], kind="stable")
        chosen = (
            [int(order[int(q * (len(order) - 1))]) for q in np.linspace(0.05, 0.75, count)] if count else []
        )
        chosen = list(dict.fromkeys(chosen))  # few images: none twice
        pictures: list[Picture] = []
        for index in chosen:
            sample = samples[index]
            image = sample.read()
            truth = Detections(sample.boxes, np.ones(len(sample.boxes), np.float32), sample.labels)
            panels, captions = [draw_detections(image, truth, self.classes, scores=False)], ["annotated"]
            for name, predictor in predictors.items():
                detected = self._predict(predictor, "val", index, [sample], least=0.3)[0]
                panels.append(draw_detections(image, detected, self.classes))
                captions.append(name)
            data = encode_jpeg(side_by_side(panels, captions))
            pictures.append(Picture(sample.name, f"{sample.name}: {', '.join(captions)}", data))
        return pictures


def detection_of(recipe: Recipe, events: Events | None) -> Detection:
    """The task of a recipe. Raises DataError that lists every problem of its data."""
    return Detection(cast(DetectionData, recipe.data), recipe.loss, recipe.seed, events)
