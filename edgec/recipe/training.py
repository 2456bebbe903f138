"""What the training loop needs, and the stages that train without a teacher."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from edgec.core.stage_spec import StageConfig
from edgec.recipe.base import Fraction, NonNegative, Ratio


class Training(StageConfig):
    """What the training loop needs; shared by every stage that trains."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = Field(description="Passes over the training split.")
    batch: PositiveInt = Field(default=16, description="Images per step and process.")
    optimizer: Literal["sgd", "adamw", "soap"] = Field(
        default="sgd", description="sgd (with momentum), adamw, or soap (arXiv 2409.11321)."
    )
    lr: PositiveFloat = Field(default=0.01, description="Largest learning rate, reached after the warm-up.")
    final_lr: Fraction = Field(
        default=0.02, description="Learning rate at the end of the cosine decay, as a share of `lr`."
    )
    momentum: Fraction = Field(default=0.937, description="Momentum of SGD, or the first beta of the others.")
    weight_decay: NonNegative = Field(default=5e-4, description="Weight decay.")
    warmup_epochs: NonNegative = Field(
        default=1.0,
        description="Epochs in which the learning rate rises from a tenth of `lr`; at most half of the training.",
    )
    clip_norm: PositiveFloat = Field(
        default=10.0, description="Largest norm of the gradients; larger ones are scaled down."
    )
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.998,
        description="Decay of the exponential moving average of weights, which is what is kept. 0: no averaging.",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="Arithmetic of training. auto: mixed precision on a GPU, fp32 on a CPU."
    )
    evaluate_every: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Epochs between evaluations on the validation split. 0: only at the end."
    )
    workers: Annotated[int, Field(ge=0, le=64)] = Field(
        default=0, description="Processes that read and augment images. 0: the training process itself."
    )

    def details(self) -> str:
        return f", {self.epochs} epochs"


class Train(Training):
    """Ordinary training with the task's loss: from scratch, or fine-tuning."""

    kind: Literal["train"] = "train"


class Sparsify(Training):
    """Sparse training: a penalty moves channels towards zero (dynamic sparse training, arXiv 2306.01526)."""

    kind: Literal["sparsify"] = "sparsify"
    signal: Literal["auto", "norm_scales", "filter_norms"] = Field(
        default="auto",
        description="What is penalized: batch-norm scales, or the norms of filters (group lasso). auto: scales where the "
        "network has batch norms.",
    )
    rate: PositiveFloat = Field(
        default=1e-3, description="Strength of the penalty (the gradient added per step)."
    )
    schedule: Literal["paper", "constant", "linear", "cosine"] = Field(
        default="paper",
        description="How the penalty changes over the training. paper: as in arXiv 2306.01526.",
    )
    knee: Ratio = Field(
        default=0.4,
        description="`schedule: paper`: share of the epochs in which all channels get the full rate.",
    )
    percentile: Annotated[float, Field(gt=0, lt=100)] = Field(
        default=65.0,
        description="`schedule: paper`: after the knee, channels above this percentile of sizes are relieved.",
    )
    relief: Fraction = Field(
        default=0.01, description="`schedule: paper`: share of the rate that relieved channels still get."
    )
    ignore: tuple[str, ...] = Field(
        default=(), description="Patterns of module names that are not penalized."
    )
