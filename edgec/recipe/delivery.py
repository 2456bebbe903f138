"""Stages that make and measure artifacts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from edgec.recipe.base import Fraction, Frozen, NonNegative, Precision, Ratio, RuntimeName


class Export(Frozen):
    """ONNX artifacts with their contract and golden files."""

    kind: Literal["export"] = "export"
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    output: Literal["raw", "boxes"] = "raw"  # head maps, or decoded boxes after NMS inside the graph
    dynamic_batch: bool = False
    dynamic_size: bool = False  # any height and width
    # also a graph of this fixed height and width: *.tile.onnx
    tile: tuple[PositiveInt, PositiveInt] | None = None
    opset: Annotated[int, Field(ge=18, le=23)] = 18
    score_threshold: Fraction = 0.25  # boxes: what the graph keeps
    iou_threshold: Fraction = 0.45
    max_detections: PositiveInt = 300
    dense: bool = True  # also export the network before compression, to compare with


class TorchWays(Frozen):
    """How networks run in torch: every mode in every precision and layout."""

    modes: Annotated[tuple[Literal["eager", "compiled", "cuda_graph"], ...], Field(min_length=1)] = ("eager",)
    precisions: Annotated[tuple[Literal["fp32", "fp16", "bf16"], ...], Field(min_length=1)] = ("fp32",)
    layouts: Annotated[tuple[Literal["channels_first", "channels_last"], ...], Field(min_length=1)] = (
        "channels_first",
    )


class Profile(Frozen):
    """Latency of every artifact, interleaved, in fresh processes."""

    kind: Literal["profile"] = "profile"
    runtimes: tuple[RuntimeName, ...] = ("onnxruntime", "torch")
    devices: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "local",
    )  # or ssh://, adb://, names of devices.yaml
    threads: tuple[PositiveInt, ...] = ()  # empty: 1 and the number of cores
    torch: TorchWays = TorchWays()
    batches: tuple[PositiveInt, ...] = (1,)  # others need an export with dynamic_batch
    processes: PositiveInt = 5
    warmup_seconds: NonNegative = 0.3
    min_seconds: PositiveFloat = 0.5  # a process and artifact
    max_seconds: PositiveFloat = 3.0
    interval: Ratio = 0.05  # stop when the 95 % interval of the median is this narrow (share of the median)
