"""The stages that train from a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from edgec.distillers.affinity import FeatureAffinity
from edgec.distillers.boxes import Boxes
from edgec.distillers.catalog import DISTILLERS
from edgec.distillers.custom import CustomTerm
from edgec.distillers.cwd import ChannelWise
from edgec.distillers.fitnet import FitNet
from edgec.distillers.logits import Logits
from edgec.distillers.mse import MeanSquared
from edgec.distillers.output import Output
from edgec.distillers.pkd import Pearson
from edgec.distillers.spatial_attention import SpatialAttention
from edgec.recipe.base import Fraction, NonNegative
from edgec.recipe.training import Training
from edgec.recipe.union import OfPackages

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
    OfPackages(DISTILLERS, "kind", lambda row: row.term),
]


class DistillationTraining(Training):
    """Training from a teacher, declared as in torchdistill: terms on named taps, beside the task's loss."""

    teacher: Literal["dense"] | Path = Field(
        default="dense", description="dense: the network before compression. Else a network folder."
    )
    task_loss: NonNegative = Field(
        default=1.0,
        description="Weight of the task's own loss on labels, beside the terms. 0: the teacher alone.",
    )
    terms: tuple[Distiller, ...] = Field(default=(), description="Distillation terms, added to the loss.")

    def teacher_source(self) -> Literal["dense"] | Path:
        return self.teacher

    def modules(self) -> tuple[str, ...]:
        """Those of the distillers that the terms name, and of the user's functions that these call."""
        own = [DISTILLERS.row(term.kind).terms.__module__ for term in self.terms]
        return (*own, *(module for term in self.terms for module in term.modules()))


class Distill(DistillationTraining):
    """Knowledge distillation of the network as it is, in float."""

    kind: Literal["distill"] = "distill"


class QuantizationAware(DistillationTraining):
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
