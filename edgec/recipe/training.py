"""What the training loop needs, and the stages that train without a teacher."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from edgec.recipe.base import Fraction, Frozen, NonNegative, Ratio


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
