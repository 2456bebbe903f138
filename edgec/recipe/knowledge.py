"""Distillation terms, and the stages that train from a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, PositiveFloat, PositiveInt

from edgec.recipe.base import Fraction, Frozen, NonNegative
from edgec.recipe.training import Training


class Tap(Frozen):
    """A named module of the teacher and the one of the student that answers it."""

    teacher: str = Field(description="Module name in the teacher.")
    student: str = Field(description="Module name in the student.")


class Term(Frozen):
    """One term of the distillation loss."""

    weight: NonNegative = Field(default=1.0, description="Weight of the term in the loss.")
    schedule: Literal["constant", "linear_down", "cosine_down", "linear_up"] = Field(
        default="constant",
        description="How the weight changes over the training: from 1 to 0, or from 0 to 1 times `weight`.",
    )


class TappedTerm(Term):
    """A term that compares feature maps."""

    taps: Literal["auto"] | tuple[str | Tap, ...] = Field(
        default="auto",
        description="Modules whose outputs are compared: names, or pairs of teacher and student. auto: the end of every "
        "scale group.",
    )


class SpatialAttention(TappedTerm):
    """Spatial attention transfer (arXiv 2306.01526, after 1612.03928): where a feature map has its energy."""

    kind: Literal["spatial_attention"]
    weight: NonNegative = Field(
        default=1000.0, description="Weight of the term; attention maps have unit norm, so it is large."
    )
    mask: Literal["none", "boxes"] = Field(
        default="none", description="boxes: only places inside labelled objects count (detection)."
    )


class Logits(Term):
    """Class and objectness logits of a detector's heads (arXiv 1503.02531, with a sigmoid per class)."""

    kind: Literal["logits"]
    temperature: PositiveFloat = Field(default=3.0, description="Softening temperature of the sigmoids.")


class Boxes(Term):
    """Box regression outputs, weighted by the teacher's confidence (as in Chen et al., NeurIPS 2017)."""

    kind: Literal["boxes"]


class FitNet(TappedTerm):
    """Hints (FitNets, arXiv 1412.6550): normalized features, through a 1 x 1 connector that trains with the student."""

    kind: Literal["fitnet"]
    weight: NonNegative = Field(default=10.0, description="Weight of the term in the loss.")


class MeanSquared(TappedTerm):
    """Mean squared error of features as they are, for students with the teacher's channels, as after decompose."""

    kind: Literal["mse"]


class ChannelWise(TappedTerm):
    """Channel-wise distillation (arXiv 2011.13256): each channel as a distribution over places."""

    kind: Literal["cwd"]
    temperature: PositiveFloat = Field(default=1.0, description="Temperature of the spatial softmax.")


class Pearson(TappedTerm):
    """PKD (arXiv 2207.02039): features up to scale and offset, by Pearson correlation."""

    kind: Literal["pkd"]
    weight: NonNegative = Field(default=10.0, description="Weight of the term in the loss.")


class Output(Term):
    """L1 between the outputs of teacher and student, for networks that output images."""

    kind: Literal["output"]


class FeatureAffinity(TappedTerm):
    """Feature affinity (FAKD, He et al., ICIP 2020): cosine similarities between all positions of a feature map."""

    kind: Literal["affinity"]
    pool: PositiveInt = Field(
        default=12,
        description="Height and width to which maps are averaged first; the affinity has pool^4 entries.",
    )


class CustomTerm(TappedTerm):
    """The user's own distiller: `package.module:function`, behind --allow-code."""

    kind: Literal["custom"]
    function: str = Field(
        description="`package.module:function`; takes student and teacher features, returns a scalar."
    )
    options: dict[str, JsonValue] = Field(default={}, description="Keyword arguments of the function.")


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

    teacher: Literal["dense"] | Path = Field(
        default="dense", description="dense: the network before compression. Else a network folder."
    )
    task_loss: NonNegative = Field(
        default=1.0,
        description="Weight of the task's own loss on labels, beside the terms. 0: the teacher alone.",
    )
    terms: tuple[Distiller, ...] = Field(default=(), description="Distillation terms, added to the loss.")


class Distill(Taught):
    """Knowledge distillation of the network as it is, in float."""

    kind: Literal["distill"] = "distill"


class QuantizationAware(Taught):
    """Quantization-aware training (QAT) with distillation, of what the quantize stage before it has set up."""

    kind: Literal["qad"] = "qad"
    optimizer: Literal["sgd", "adamw", "soap"] = Field(
        default="adamw", description="sgd (with momentum), adamw, or soap (arXiv 2409.11321)."
    )
    lr: PositiveFloat = Field(
        default=1e-4, description="Largest learning rate; small, since the network is trained already."
    )
    weight_decay: NonNegative = Field(default=0.0, description="Weight decay.")
    warmup_epochs: NonNegative = Field(default=0.2, description="Epochs in which the learning rate rises.")
    clip_norm: PositiveFloat = Field(
        default=1.0, description="Largest norm of the gradients; larger ones are scaled down."
    )
    ranges: Literal["learned", "moving_average", "fixed"] = Field(
        default="learned",
        description="Activation ranges. learned: step and zero point train (LSQ+, arXiv 1902.08153 and 2004.09576). "
        "moving_average: follow the extremes of batches. fixed: as calibrated.",
    )
    freeze: Fraction = Field(default=0.8, description="Share of the training after which ranges stay fixed.")
    learn_points: bool = Field(
        default=True,
        description="The centroids of codebooks train (differentiable quantization, arXiv 1802.05668).",
    )
    train_weights: bool = Field(default=True, description="false: only ranges and centroids train.")
