"""Stages that make and measure artifacts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from edgec.core.stage_spec import StageConfig
from edgec.recipe.base import Fraction, Frozen, NonNegative, Precision, Ratio, RuntimeName


class Export(StageConfig):
    """ONNX artifacts with their contract and golden files."""

    kind: Literal["export"] = "export"
    precisions: tuple[Precision, ...] = Field(
        default=("fp32", "fp16", "int8"),
        description="One artifact per precision. int8 and codebook need a quantize stage before.",
    )
    output: Literal["raw", "boxes"] = Field(
        default="raw",
        description="Detection. raw: the maps of the heads, decoded by the program that runs the artifact. boxes: decoding "
        "and non-maximum suppression (NMS) inside the graph.",
    )
    dynamic_batch: bool = Field(default=False, description="The graph takes any batch size.")
    dynamic_size: bool = Field(
        default=False,
        description="The graph takes any height and width, in the multiples that its contract names.",
    )
    tile: tuple[PositiveInt, PositiveInt] | None = Field(
        default=None,
        description="Super-resolution: also a graph of this fixed height and width in pixels (`*.tile.onnx`), for images "
        "processed in tiles.",
    )
    opset: Annotated[int, Field(ge=18, le=23)] = Field(default=18, description="ONNX operator set version.")
    score_threshold: Fraction = Field(
        default=0.25, description="`output: boxes`: the graph keeps boxes with at least this score."
    )
    iou_threshold: Fraction = Field(
        default=0.45,
        description="`output: boxes`: NMS removes boxes that overlap a better one by more than this IoU.",
    )
    max_detections: PositiveInt = Field(
        default=300, description="`output: boxes`: at most this many per image."
    )
    dense: bool = Field(
        default=True,
        description="Also export the network before compression: the baseline of accuracy and speed-up.",
    )


class TorchWays(Frozen):
    """How networks run in torch: every mode in every precision and layout."""

    modes: Annotated[tuple[Literal["eager", "compiled", "cuda_graph"], ...], Field(min_length=1)] = Field(
        default=("eager",), description="eager, torch.compile, or CUDA graphs."
    )
    precisions: Annotated[tuple[Literal["fp32", "fp16", "bf16"], ...], Field(min_length=1)] = Field(
        default=("fp32",), description="Floating-point formats."
    )
    layouts: Annotated[tuple[Literal["channels_first", "channels_last"], ...], Field(min_length=1)] = Field(
        default=("channels_first",), description="Memory layouts of activations: NCHW or NHWC."
    )


class Profile(StageConfig):
    """Latency of every artifact, interleaved, in fresh processes."""

    kind: Literal["profile"] = "profile"
    runtimes: tuple[RuntimeName, ...] = Field(
        default=("onnxruntime", "torch"),
        description="Runtimes to measure; converted artifacts are made for those that need it.",
    )
    devices: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        default=("local",),
        description="Where to measure: local, ssh://user@host, adb://serial, or names from devices.yaml. Gates read the first.",
    )
    threads: tuple[PositiveInt, ...] = Field(
        default=(), description="Thread counts. Empty: 1 and the number of cores."
    )
    torch: TorchWays = Field(default=TorchWays(), description="How networks run in torch.")
    batches: tuple[PositiveInt, ...] = Field(
        default=(1,), description="Batch sizes. Others than 1 need an export with `dynamic_batch`."
    )
    processes: PositiveInt = Field(
        default=5,
        description="Fresh processes per artifact: latency differs between processes more than within one.",
    )
    warmup_seconds: NonNegative = Field(default=0.3, description="Warm-up of each process, seconds.")
    min_seconds: PositiveFloat = Field(
        default=0.5, description="Least measuring time per process and artifact, seconds."
    )
    max_seconds: PositiveFloat = Field(
        default=3.0, description="Longest measuring time per process and artifact, seconds."
    )
    interval: Ratio = Field(
        default=0.05,
        description="A process stops early when the 95 % interval of its median is this narrow, as a share of the median.",
    )

    def measured_on(self) -> tuple[str, ...]:
        return self.devices
