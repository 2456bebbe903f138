"""Stages that change the structure or the numbers of a network."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from edgec.core.stage_spec import StageConfig
from edgec.recipe.base import Fraction, Name, NonNegative, Ratio


class Prune(StageConfig):
    """Structured channel pruning with one threshold per scale group (arXiv 2306.01526)."""

    kind: Literal["prune"] = "prune"
    groups: Literal["auto"] | dict[Name, tuple[str, ...]] = Field(
        default="auto",
        description="Scale groups: the parts of the network that share one threshold, each a name with patterns of module "
        "names. auto: cut where the resolution of the feature maps changes; in a network of one resolution, its parts.",
    )
    threshold: Literal["group", "global"] = Field(
        default="group",
        description="group: one threshold per scale group. global: one threshold for the whole network, for comparison.",
    )
    importance: Literal["auto", "scales", "taylor"] = Field(
        default="auto",
        description="How channels are ranked. scales: by batch-norm scales (network slimming, arXiv 1708.06519), or by "
        "filter norms without batch norms. taylor: by how much the training loss would change without them "
        "(arXiv 1906.10771). auto: scales where the network has batch norms, else taylor.",
    )
    ratios: dict[Name, Annotated[float, Field(ge=0, lt=1)]] = Field(
        default={}, description="Share of channels removed, by scale group."
    )
    ratio: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.5, description="Share of channels removed in scale groups that `ratios` does not name."
    )
    keep_params: Ratio | None = Field(
        default=None,
        description="Target: parameters after pruning / parameters before. The ratios are scaled until it is met. "
        "At most one target.",
    )
    keep_macs: Ratio | None = Field(
        default=None,
        description="Target: multiply-accumulates (MACs) after pruning / MACs before. The ratios are scaled until it is met.",
    )
    keep_padded_macs: Ratio | None = Field(
        default=None,
        description="Target in MACs as the runtime executes them, with channels padded to a multiple of `block`. "
        "Nearer to latency than plain MACs.",
    )
    block: PositiveInt = Field(
        default=16,
        description="Channel block of the target runtime, for padded MACs.",
    )
    round_to: PositiveInt = Field(default=8, description="Layers keep a multiple of this many channels.")
    min_channels: PositiveInt = Field(default=8, description="Fewest channels that a layer keeps.")
    min_share: Fraction = Field(
        default=0.01, description="Smallest share of its channels that a layer keeps."
    )
    ignore: tuple[str, ...] = Field(
        default=(), description="Patterns of module names that keep all their channels, such as `stem.*`."
    )
    fold_bias: bool = Field(
        default=True,
        description="A removed channel with scale zero still outputs a constant: fold the constants into the layers that "
        "read them.",
    )
    reconstruct_images: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Training images on which the remaining weights are fitted by least squares to the outputs of the "
        "unpruned layers (arXiv 1707.06168, section 3.2). 0: no fitting.",
    )
    recalibrate_batches: Annotated[int, Field(ge=0)] = Field(
        default=16,
        description="Batches on which the batch norms' statistics are measured again after pruning. 0: none.",
    )
    tolerance: Ratio = Field(
        default=0.05,
        description="How far the result may miss the target, as a share of the cost before pruning. Else the stage fails.",
    )

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        named = [n for n in ("keep_params", "keep_macs", "keep_padded_macs") if getattr(self, n) is not None]
        if len(named) > 1:
            raise ValueError(f"give one target, not {' and '.join(named)}")
        return self


class Decompose(StageConfig):
    """Low-rank factorization by spatial SVD (arXiv 1405.3866): a k x k convolution becomes a k x 1 and a 1 x k one."""

    kind: Literal["decompose"] = "decompose"
    keep_macs: Ratio = Field(default=0.5, description="Target: MACs after / MACs before, at most.")
    images: PositiveInt = Field(
        default=32, description="Training images on which the inputs of layers are measured, to choose ranks."
    )
    round_to: PositiveInt = Field(
        default=8, description="Ranks (channels between the two convolutions) are a multiple of this."
    )
    ignore: tuple[str, ...] = Field(default=(), description="Patterns of module names that stay as they are.")


class Quantize(StageConfig):
    """Post-training quantization (PTQ): calibrated ranges, per-channel weights, sensitive layers kept in float."""

    kind: Literal["quantize"] = "quantize"
    images: PositiveInt = Field(default=128, description="Calibration images, taken from the training split.")
    backend: Literal["onnxruntime", "neural-compressor"] = Field(
        default="onnxruntime",
        description="Who calibrates: edgec in onnxruntime, or Intel Neural Compressor (an extra), which tries observers "
        "until `max_drop` is kept.",
    )
    batch: PositiveInt = Field(default=16, description="Images per calibration batch.")
    calibration: Literal["minmax", "moving_average", "percentile", "mse", "entropy"] = Field(
        default="percentile",
        description="How a tensor's range is chosen. minmax: the extremes. moving_average: the extremes of batches, later "
        "ones counting more. percentile: both tails cut. mse: least quantization error. entropy: least "
        "Kullback-Leibler divergence.",
    )
    percentile: Annotated[float, Field(gt=50, le=100)] = Field(
        default=99.99,
        description="Share of values inside the range, in percent, for `calibration: percentile`.",
    )
    max_drop: NonNegative | None = Field(
        default=None,
        description="Accuracy that may be lost, in the metric's unit (mAP50: 0.003 = 0.3 points; PSNR: dB). Layers return "
        "to float until it is kept. None: 0.003 for detection, 0.05 dB for super-resolution.",
    )
    max_float_layers: Annotated[int, Field(ge=0)] = Field(
        default=8,
        description="At most this many layers return to float (or to 8 bits, where they have fewer).",
    )
    min_sqnr_db: NonNegative = Field(
        default=28.0,
        description="A layer whose quantization alone brings the signal-to-quantization-noise ratio of the outputs below "
        "this (dB) stays in float, beside those of `max_float_layers`: a metric on few images may not see it.",
    )
    sensitivity_images: PositiveInt = Field(
        default=16, description="Validation images on which the sensitivity of each layer is measured."
    )
    metric_layers: Annotated[int, Field(ge=0)] = Field(
        default=4,
        description="For this many layers, the ones most worth returning to float, the report also shows what quantizing "
        "that layer alone costs in the metric.",
    )
    keep_float: tuple[str, ...] = Field(
        default=(), description="Patterns of layers that stay in float in any case."
    )
    weight_bits: Literal[8, 6, 4, 3, 2] = Field(
        default=8,
        description="Bits per weight. With 4 and fewer, a layer's weights are palettized: they lie on the centroids of a "
        "codebook, and layers that lose too much return to 8 bits instead of float.",
    )
    average_bits: Annotated[float, Field(ge=2, le=4)] | None = Field(
        default=None,
        description="Mixed precision, with `weight_bits: 4`: layers get 2 to 4 bits by the size of their gradients, this "
        "many per weight on average (arXiv 1802.05668, section 3.2).",
    )
    points: Literal["uniform", "quantiles", "kmeans"] = Field(
        default="kmeans", description="How the centroids of a codebook are initialized."
    )
    activation_bits: Literal[8, 4] = Field(
        default=8,
        description="Bits per activation. 4: for training and study; no runtime of edgec executes it.",
    )
    weights_only: bool = Field(
        default=False,
        description="Weight-only quantization: activations stay in float. The file is smaller, not faster. Exported as "
        "precision `codebook`.",
    )
    bucket: Annotated[int, Field(ge=8)] | None = Field(
        default=None,
        description="With `weights_only`: each stretch of this many weights has its own scale between its least and its "
        "largest weight (quantized distillation, arXiv 1802.05668; 256 there). None: one scale per output channel.",
    )
    bias_correction: bool = Field(
        default=False,
        description="Subtract the mean error of quantized weights from the biases (arXiv 1906.04721).",
    )

    def libraries(self) -> tuple[str, ...]:
        return () if self.backend == "onnxruntime" else ("neural-compressor", "neural-compressor-pt")

    @model_validator(mode="after")
    def _average_of_codebooks(self) -> Self:
        if self.average_bits is not None and self.weight_bits != 4:
            raise ValueError(
                "average_bits distributes 2 to 4 bits over the layers: set weight_bits: 4 with it"
            )
        if self.bucket is not None and not self.weights_only:
            raise ValueError("bucket: no integer convolution can run it; give weights_only: true with it")
        if self.bucket is not None and self.average_bits is not None:
            raise ValueError("average_bits is for codebooks, and bucket uses none: remove one of them")
        if self.weights_only and (self.bias_correction or self.backend != "onnxruntime"):
            raise ValueError("weights_only needs no calibration: remove bias_correction and backend")
        return self
