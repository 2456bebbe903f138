"""The recipe: the whole YAML schema on one page. Never imports torch.

A recipe is the task, its data, the network, the stages in order, and the gates. `edgec.yaml_source`
reads the text strictly and knows the line of every key; this file says what may stand there.
All models are frozen and closed: an unknown key is an error, with the nearest known key named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from edgec.errors import Problem, RecipeError
from edgec.yaml_source import Source, apply_overrides, find_recipe, parse, problems_of, resolve_paths

Ratio = Annotated[float, Field(gt=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Precision = Literal[
    "fp32", "fp16", "int8", "codebook"
]  # codebook: int8 whose weights are stored as 4-bit indices
INTEGERS = ("int8", "codebook")
RuntimeName = Literal[
    "onnxruntime", "torch", "openvino", "ncnn", "mnn", "litert", "executorch", "null",
    # execution providers, where the installed build of onnxruntime has them
    "onnxruntime-cuda", "onnxruntime-tensorrt", "onnxruntime-openvino", "onnxruntime-xnnpack", "onnxruntime-coreml",
    "onnxruntime-nnapi", "onnxruntime-qnn",
]  # fmt: skip
CONVERTED: tuple[RuntimeName, ...] = (
    "openvino",
    "ncnn",
    "mnn",
    "litert",
    "executorch",
)  # those that take files of their own
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,40}$")]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_max_length=4096)


# --- data ------------------------------------------------------------------------------------------


class Augment(Frozen):
    """Training-time augmentation, drawn for each (seed, epoch, index)."""

    mosaic: Fraction = 0.5
    mosaic_off_epochs: Annotated[int, Field(ge=0)] = 2  # the last epochs see whole images
    flip: Fraction = 0.5
    hue: Fraction = 0.015
    saturation: Fraction = 0.5
    value: Fraction = 0.35
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.3
    translate: Annotated[float, Field(ge=0, lt=1)] = 0.1
    rotate_degrees: Annotated[float, Field(ge=0, le=45)] = 0.0


class DataBase(Frozen):
    input: tuple[PositiveInt, PositiveInt] = (320, 320)  # height, width of the network input, pixels
    fit: Literal["letterbox", "stretch"] = "letterbox"
    problems: Literal["error", "skip"] = "error"  # stop at bad samples, or leave them out and report
    augment: Augment = Augment()

    @field_validator("input")
    @classmethod
    def _multiple_of_32(cls, value: tuple[int, int]) -> tuple[int, int]:
        if any(side % 32 or side > 4096 for side in value):
            raise ValueError("height and width must be multiples of 32, at most 4096")
        return value


class SignsData(DataBase):
    """The built-in set: drawn traffic signs on real photographs, deterministic by seed."""

    format: Literal["signs"]
    train: PositiveInt = 512  # number of images
    val: PositiveInt = 128
    test: PositiveInt | None = None
    image_seed: int = 1
    photograph_size: PositiveInt = 288  # pixels, both sides


class VocData(DataBase):
    """PASCAL VOC: Annotations/*.xml, JPEGImages/, ImageSets/Main/<name>.txt; `train2007+train2012` joins sets."""

    format: Literal["voc"]
    root: Path
    classes: tuple[str, ...]
    train: str = "train"
    val: str = "val"
    test: str | None = None


class CocoSplit(Frozen):
    images: Path
    annotations: Path


class CocoData(DataBase):
    """COCO instances JSON, one file and one image folder a split."""

    format: Literal["coco"]
    classes: tuple[str, ...] = ()  # empty: all categories of the training file, by id
    train: CocoSplit
    val: CocoSplit
    test: CocoSplit | None = None


class YoloData(DataBase):
    """YOLO txt: a folder of images (or a list file) a split; labels/ beside images/."""

    format: Literal["yolo"]
    root: Path
    classes: tuple[str, ...]
    train: str = "images/train"
    val: str = "images/val"
    test: str | None = None


class ImageSet(Frozen):
    """A folder of high-resolution images and, where they exist, the low-resolution ones of the same names."""

    hr: Path
    lr: Path | None = None  # None: made by MATLAB's bicubic `imresize`
    limit: PositiveInt | None = None  # the first images by name; None: all


Sets = Annotated[dict[Name, ImageSet], Field(min_length=1)]


class ImagesBase(Frozen):
    """Super-resolution data: pairs of a low- and a high-resolution image."""

    scale: Literal[2, 3, 4] = 4  # high resolution / low resolution
    enlarged: bool = False  # the network takes the low resolution enlarged to the output's size (bicubic)
    peak: Literal[1, 255] = 1  # value of white at the network's input and output
    # height, width: golden files, profile, calibration, fixed sizes
    input: tuple[PositiveInt, PositiveInt] = (64, 64)
    patch: Annotated[int, Field(ge=8)] = 48  # side of a training patch at low resolution, pixels
    patches: PositiveInt = 16  # drawn from each training image in an epoch
    flip: bool = True  # random flips and quarter turns
    problems: Literal["error", "skip"] = "error"


class PhotographsData(ImagesBase):
    """The built-in set: scikit-image's photographs, some for training, others for validation."""

    format: Literal["photographs"]


class FolderData(ImagesBase):
    """Folders of images: named sets for each split; metrics are told for each set and over all."""

    format: Literal["images"]
    root: Path
    train: Sets
    val: Sets
    test: Sets | None = None

    @field_validator("train", "val", "test", mode="before")
    @classmethod
    def _folder_alone(cls, sets: Any) -> Any:
        """A folder's name stands for its high-resolution images; one folder, for a set called after it."""
        if isinstance(sets, str | Path):
            return {"images": {"hr": sets}}
        if not isinstance(sets, Mapping):
            return sets
        return {k: {"hr": v} if isinstance(v, str | Path) else v for k, v in sets.items()}


DetectionData = SignsData | VocData | CocoData | YoloData
SuperresData = PhotographsData | FolderData
Data = Annotated[DetectionData | SuperresData, Field(discriminator="format")]


# --- network ---------------------------------------------------------------------------------------


class NetworkSource(Frozen):
    """Where the network comes from: a shipped architecture, a Darknet cfg, or the user's own factory."""

    arch: str  # "yolov4_tiny", "yolov4", "darknet", or "package.module:factory" with --allow-code
    args: dict[str, JsonValue] = {}
    cfg: Path | None = None  # arch: darknet
    weights: Path | None = None  # .safetensors, .weights (Darknet), .pt/.pth (weights_only), a network folder
    anchors: Literal["own", "kmeans"] = "own"

    @model_validator(mode="after")
    def _cfg_with_darknet(self) -> Self:
        if (self.arch == "darknet") != (self.cfg is not None):
            raise ValueError("arch: darknet needs cfg, and only darknet has one")
        return self


class Loss(Frozen):
    """Weights of the YOLOv4 loss terms, each summed over a batch and divided by its positives."""

    box: NonNegative = 5.0
    objectness: NonNegative = 1.0
    classes: NonNegative = 1.0
    ignore_iou: Ratio = 0.7


# --- stages ----------------------------------------------------------------------------------------


class Training(Frozen):
    """What the training loop needs; shared by every stage that trains."""

    epochs: Annotated[int, Field(ge=1, le=100_000)]
    batch: PositiveInt = 16
    optimizer: Literal["sgd", "adamw", "soap"] = "sgd"
    lr: PositiveFloat = 0.01
    final_lr: Fraction = 0.02  # of lr, at the end of the cosine
    momentum: Fraction = 0.937
    weight_decay: NonNegative = 5e-4
    warmup_epochs: NonNegative = 1.0
    clip_norm: PositiveFloat = 10.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998  # 0: no averaging
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    evaluate_every: Annotated[int, Field(ge=0)] = 0  # epochs; 0: at the end only
    workers: Annotated[int, Field(ge=0, le=64)] = 0  # processes that read and augment images


class Train(Training):
    """Ordinary training with the task's loss: from scratch, or fine-tuning."""

    kind: Literal["train"] = "train"


class Sparsify(Training):
    """Training that pulls channels towards zero (dynamic sparse training, arXiv 2306.01526)."""

    kind: Literal["sparsify"] = "sparsify"
    # What is pulled: batch-norm scales, or the norms of filters. auto: scales where the network has batch norms.
    signal: Literal["auto", "norm_scales", "filter_norms"] = "auto"
    rate: PositiveFloat = 1e-3
    schedule: Literal["paper", "constant", "linear", "cosine"] = "paper"
    knee: Ratio = 0.4  # paper: share of the epochs with the full rate on all channels
    percentile: Annotated[float, Field(gt=0, lt=100)] = 65.0  # paper: above it the pull is relieved
    relief: Fraction = 0.01  # paper: what is left of the rate for those channels
    ignore: tuple[str, ...] = ()


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


class Tap(Frozen):
    """A named module of the teacher and the one of the student that answers it."""

    teacher: str
    student: str


class Term(Frozen):
    weight: NonNegative = 1.0
    schedule: Literal["constant", "linear_down", "cosine_down", "linear_up"] = "constant"


class TappedTerm(Term):
    taps: Literal["auto"] | tuple[str | Tap, ...] = "auto"  # auto: the end of every scale group


class SpatialAttention(TappedTerm):
    kind: Literal["spatial_attention"]
    weight: NonNegative = 1000.0
    mask: Literal["none", "boxes"] = "none"


class Logits(Term):
    kind: Literal["logits"]  # class (and objectness) logits of the heads
    temperature: PositiveFloat = 3.0


class Boxes(Term):
    kind: Literal["boxes"]  # regression outputs where the teacher sees an object


class FitNet(TappedTerm):
    kind: Literal["fitnet"]
    weight: NonNegative = 10.0


class MeanSquared(TappedTerm):
    kind: Literal["mse"]  # features as they are, for students with the teacher's channels


class ChannelWise(TappedTerm):
    kind: Literal["cwd"]
    temperature: PositiveFloat = 1.0


class Pearson(TappedTerm):
    kind: Literal["pkd"]
    weight: NonNegative = 10.0


class Output(Term):
    kind: Literal["output"]  # L1 between the outputs, for networks that give images


class FeatureAffinity(TappedTerm):
    kind: Literal["affinity"]  # cosine similarities between all positions of a feature map (FAKD)
    pool: PositiveInt = 12  # side to which the maps are averaged first: the affinity has pool^4 entries


class CustomTerm(TappedTerm):
    """The user's own distiller: `package.module:function`, behind --allow-code."""

    kind: Literal["custom"]
    function: str
    options: dict[str, JsonValue] = {}


Distiller = Annotated[
    SpatialAttention
    | Logits
    | Boxes
    | Output
    | FitNet
    | MeanSquared
    | ChannelWise
    | Pearson
    | FeatureAffinity
    | CustomTerm,
    Field(discriminator="kind"),
]


class Taught(Training):
    """Training from a teacher, declared as in torchdistill: terms on named taps, beside the task's loss."""

    teacher: Literal["dense"] | Path = "dense"  # the network before compression, or a network folder
    task_loss: NonNegative = 1.0
    terms: tuple[Distiller, ...] = ()


class Distill(Taught):
    """Distillation of the network as it is, in float."""

    kind: Literal["distill"] = "distill"


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


class QuantizationAware(Taught):
    """Quantization-aware distillation: training that sees the rounding which the quantize stage before it has set up."""

    kind: Literal["qad"] = "qad"
    optimizer: Literal["sgd", "adamw", "soap"] = "adamw"
    lr: PositiveFloat = 1e-4
    weight_decay: NonNegative = 0.0
    warmup_epochs: NonNegative = 0.2
    clip_norm: PositiveFloat = 1.0
    ranges: Literal["learned", "moving_average", "fixed"] = "learned"
    freeze: Fraction = 0.8  # share of the training after which ranges stay as they are
    learn_points: bool = True  # the points of codebooks train
    train_weights: bool = True  # false: only ranges and points train


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


class Custom(Frozen):
    """The user's own stage: `package.module:function`, behind --allow-code."""

    kind: Literal["custom"]
    function: str
    options: dict[str, JsonValue] = {}


Stage = Annotated[
    Train | Sparsify | Prune | Decompose | Distill | Quantize | QuantizationAware | Export | Profile | Custom,
    Field(discriminator="kind"),
]
STAGE_KINDS = (
    "train",
    "sparsify",
    "prune",
    "decompose",
    "distill",
    "quantize",
    "qad",
    "export",
    "profile",
    "custom",
)


# --- gates and the whole ---------------------------------------------------------------------------


class Gates(Frozen):
    """Promises that the shipped artifact must keep against the dense fp32 artifact."""

    artifact: Precision | None = None  # None: the smallest precision exported
    split: Literal["val", "test"] = "val"
    max_drop: NonNegative | None = None  # of the metric, in its unit (mAP: 0.01 = 1 point; PSNR: dB)
    min_metric: NonNegative | None = None
    min_speedup: PositiveFloat | None = None  # with 1 thread, in onnxruntime
    max_latency_ms: PositiveFloat | None = None
    max_bytes: PositiveInt | None = None
    max_params: PositiveInt | None = None


class Recipe(Frozen):
    """One recipe, checked."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,60}$")]
    task: Literal["detection", "superres"]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    data: Data
    network: NetworkSource
    loss: Loss = Loss()
    stages: dict[Name, Stage] = Field(min_length=1, max_length=32)
    gates: Gates = Gates()
    pictures: Annotated[int, Field(ge=0, le=32)] = 4  # images drawn in the report

    @model_validator(mode="after")
    def _data_of_the_task(self) -> Self:
        detection = not isinstance(self.data, ImagesBase)
        if detection != (self.task == "detection"):
            formats = "signs, voc, coco, yolo" if self.task == "detection" else "photographs, images"
            raise ValueError(f"task {self.task} takes data.format {formats}, not {self.data.format}")
        if self.task == "superres" and self.loss != Loss():
            raise ValueError("loss has the terms of detection; super-resolution trains on L1 alone")
        return self

    @model_validator(mode="after")
    def _integers_in_order(self) -> Self:
        """What stages need of those before them, told before anything is trained."""
        problems: list[str] = []
        quantize: Quantize | None = None
        for name, stage in self.stages.items():
            match stage:
                case Quantize():
                    quantize = stage
                case QuantizationAware() if quantize is None and self.network.weights is None:
                    problems.append(f"stages.{name}: put a quantize stage before it")
                case Export() if quantize is not None:
                    integers = [p for p in stage.precisions if p in INTEGERS]
                    if integers and quantize.activation_bits != 8:
                        remedy = f"set activation_bits: 8, or take {' and '.join(integers)} off precisions"
                        problems.append(f"stages.{name}: no runtime here has 4-bit activations; {remedy}")
                    if "int8" in integers and quantize.weights_only:
                        problems.append(
                            f"stages.{name}: weights_only leaves nothing that runs in integers: take codebook, not int8"
                        )
                    if "codebook" in integers and quantize.weight_bits > 4 and not quantize.weights_only:
                        problems.append(
                            f"stages.{name}: codebook needs weight_bits of 4 or fewer in the quantize stage"
                        )
                case _:
                    pass
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @field_validator("stages", mode="before")
    @classmethod
    def _kind_from_name(cls, stages: Any) -> Any:
        """A stage whose name is a kind needs no `kind:` key."""
        if not isinstance(stages, Mapping):
            return stages
        filled: dict[Any, Any] = {}
        for name, body in stages.items():
            body = {} if body is None else body
            if isinstance(body, Mapping) and "kind" not in body and name in STAGE_KINDS:
                body = {"kind": name, **body}
            filled[name] = body
        return filled


def load(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | Sequence[str] = ()) -> Recipe:
    """Read, override and check a recipe.

    `source` is a path, the name of a shipped recipe (`detector.yaml` or `detector`), or a mapping.
    `overrides` are `key=value` texts with dotted paths, or a mapping of dotted path to value.
    Raises RecipeError with every problem at once, each with file, line, value and remedy.
    """
    text = Source({}, {}, "recipe", None) if isinstance(source, Mapping) else parse(find_recipe(source))
    tree: Any = dict(source) if isinstance(source, Mapping) else text.tree
    tree, text = apply_overrides(tree, text, overrides)
    tree = resolve_paths(tree, text)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(problems_of(error, text, Recipe)) from None


def check_unique_classes(classes: Sequence[str], place: str) -> list[Problem]:
    """Problems of a class list: empty or repeated names."""
    seen: set[str] = set()
    problems: list[Problem] = []
    for index, name in enumerate(classes):
        if not name.strip() or name in seen:
            problems.append(
                Problem(f"{place}[{index}]", f"class {name!r} is empty or repeated", "name each class once")
            )
        seen.add(name)
    return problems
