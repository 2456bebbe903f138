"""Distillation terms, and the stages that train from a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, PositiveFloat, PositiveInt

from edgec.recipe.base import Fraction, Frozen, NonNegative
from edgec.recipe.training import Training


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
