"""Stages that change the structure or the numbers of a network."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from edgec.recipe.base import Fraction, Frozen, Name, NonNegative, Ratio


class Prune(Frozen):
    """Group channel pruning with a threshold per scale group (arXiv 2306.01526)."""

    kind: Literal["prune"] = "prune"
    groups: Literal["auto"] | dict[Name, tuple[str, ...]] = "auto"  # scale groups: name -> module patterns
    threshold: Literal["group", "global"] = "group"  # global: one threshold for all, as a comparison
    # How channels are ranked. scales: by batch-norm scales, or the norms of filters; taylor: by how far the training
    # loss would move without them. auto: scales where the network has batch norms, else taylor.
    importance: Literal["auto", "scales", "taylor"] = "auto"
    ratios: dict[Name, Annotated[float, Field(ge=0, lt=1)]] = {}  # share of channels removed, by group
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5  # groups that `ratios` does not name
    keep_params: Ratio | None = None  # solve: parameters left / parameters before
    keep_macs: Ratio | None = None
    keep_padded_macs: Ratio | None = None  # MACs with channels padded to `block`
    block: PositiveInt = 16  # channel block of the target runtime
    round_to: PositiveInt = 8
    min_channels: PositiveInt = 8
    min_share: Fraction = 0.01  # of a layer's channels
    ignore: tuple[str, ...] = ()
    fold_bias: bool = True  # constant output of removed channels goes into the next layer
    reconstruct_images: Annotated[int, Field(ge=0)] = (
        0  # layers are fitted to the dense ones on so many; 0: not
    )
    recalibrate_batches: Annotated[int, Field(ge=0)] = 16
    tolerance: Ratio = 0.05  # how far from the target the solved result may lie (share of the dense cost)

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        named = [n for n in ("keep_params", "keep_macs", "keep_padded_macs") if getattr(self, n) is not None]
        if len(named) > 1:
            raise ValueError(f"give one target, not {' and '.join(named)}")
        return self


class Decompose(Frozen):
    """Spatial SVD (arXiv 1405.3866): a k x k convolution becomes a k x 1 and a 1 x k one, few channels between."""

    kind: Literal["decompose"] = "decompose"
    keep_macs: Ratio = 0.5  # MACs left / MACs before, at most
    images: PositiveInt = 32  # of the training split: what layers take there tells what may go
    round_to: PositiveInt = 8  # channels between the two are a multiple of this
    ignore: tuple[str, ...] = ()


class Quantize(Frozen):
    """Post-training quantization: calibrated ranges, per-channel weights, sensitive layers kept in float."""

    kind: Literal["quantize"] = "quantize"
    images: PositiveInt = 128  # of the training split, for calibration
    # Who calibrates: edgec in onnxruntime, or Intel Neural Compressor, which tries observers until max_drop is kept.
    backend: Literal["onnxruntime", "neural-compressor"] = "onnxruntime"
    batch: PositiveInt = 16
    calibration: Literal["minmax", "moving_average", "percentile", "mse", "entropy"] = "percentile"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    max_drop: NonNegative = 0.003  # of the metric, in its unit; layers return to float until it is kept
    max_float_layers: Annotated[int, Field(ge=0)] = 8
    # A layer of 8 bits that alone leaves a lower signal-to-noise ratio in the outputs stays in float, beside those of
    # max_float_layers: a metric on few images may not see it.
    min_sqnr_db: NonNegative = 28.0
    sensitivity_images: PositiveInt = 16
    # So many layers, the ones most worth returning, are also measured by what they alone do to the metric.
    metric_layers: Annotated[int, Field(ge=0)] = 4
    keep_float: tuple[str, ...] = ()  # patterns of layers that stay in float in any case
    # Weights of 4 bits and fewer lie on the points of a codebook; layers that lose too much return to 8 bits, not to float.
    weight_bits: Literal[8, 6, 4, 3, 2] = 8
    average_bits: Annotated[float, Field(ge=2, le=4)] | None = (
        None  # weight_bits 4: 2 to 4 by layer, by gradients
    )
    points: Literal["uniform", "quantiles", "kmeans"] = "kmeans"  # where the points of a codebook start
    activation_bits: Literal[8, 4] = 8  # 4: for training and for study, no runtime here runs it
    # Activations stay in float and weights alone have few bits: a smaller file, no faster. With `bucket`, weights are scaled
    # between the least and the largest of so many in a row, as quantized distillation does (256 there).
    weights_only: bool = False  # exported as codebook
    bucket: Annotated[int, Field(ge=8)] | None = None
    bias_correction: bool = False  # take the mean error of rounded weights from the biases

    @model_validator(mode="after")
    def _average_of_codebooks(self) -> Self:
        if self.average_bits is not None and self.weight_bits != 4:
            raise ValueError("average_bits shares out 2 to 4 bits: give weight_bits: 4 with it")
        if self.bucket is not None and not self.weights_only:
            raise ValueError("bucket: no integer convolution can run it; give weights_only: true with it")
        if self.bucket is not None and self.average_bits is not None:
            raise ValueError("average_bits is for codebooks, and bucket has levels of its own: leave one out")
        if self.weights_only and (self.bias_correction or self.backend != "onnxruntime"):
            raise ValueError("weights_only calibrates nothing: leave bias_correction and backend out")
        return self
