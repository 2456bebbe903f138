"""The whole recipe: task, data, network, stages in order, gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from edgec.core.errors import RecipeError
from edgec.core.frozen import json_object
from edgec.recipe.base import INTEGERS, Frozen, Name, NonNegative, Precision
from edgec.recipe.compression import Quantize
from edgec.recipe.data import DATA, Data
from edgec.recipe.delivery import Export
from edgec.recipe.detection import Loss
from edgec.recipe.knowledge import QuantizationAware
from edgec.recipe.network import NetworkSource
from edgec.recipe.paths import resolve_paths
from edgec.recipe.stages import STAGES, Stage
from edgec.recipe.tasks import TASKS, TaskName
from edgec.recipe.yaml_source import RecipeSource, apply_overrides, find_recipe, parse, problems_of


class Gates(Frozen):
    """Promises that the shipped artifact must keep against the dense fp32 artifact."""

    artifact: Precision | None = Field(
        default=None,
        description="Precision of the artifact that the gates judge. None: the smallest one exported.",
    )
    split: Literal["val", "test"] = Field(default="val", description="Split on which accuracy is judged.")
    max_drop: NonNegative | None = Field(
        default=None,
        description="Accuracy that may be lost, in the metric's unit (mAP50: 0.01 = 1 point; PSNR: dB).",
    )
    min_metric: NonNegative | None = Field(default=None, description="Least accuracy, in the metric's unit.")
    min_speedup: PositiveFloat | None = Field(
        default=None,
        description="Least speed-up over the dense fp32 artifact, in onnxruntime with 1 thread and batch 1.",
    )
    max_latency_ms: PositiveFloat | None = Field(
        default=None,
        description="Largest median latency in milliseconds, in onnxruntime with 1 thread and batch 1.",
    )
    max_bytes: PositiveInt | None = Field(
        default=None, description="Largest size of the artifact's file in bytes."
    )
    max_params: PositiveInt | None = Field(default=None, description="Most parameters of the network.")


class Recipe(Frozen):
    """One recipe, checked."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,60}$")] = Field(
        description="Name of the recipe; runs are called NAME-1, NAME-2 and so on."
    )
    task: TaskName = Field(description="What the network is for.")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        default=0,
        description="Seed of all random numbers; the same seed gives the same result on one machine.",
    )
    data: Data = Field(description="The data set; `format` selects how it is read.")
    network: NetworkSource = Field(description="Where the network comes from.")
    loss: Loss = Field(default=Loss(), description="Weights of the detection loss.")
    stages: dict[Name, Stage] = Field(
        min_length=1,
        max_length=32,
        description="The steps in order: name -> stage. A stage whose name is a kind needs no `kind` key.",
    )
    gates: Gates = Field(default=Gates(), description="Promises that the shipped artifact must keep.")
    pictures: Annotated[int, Field(ge=0, le=32)] = Field(default=4, description="Images drawn in the report.")

    @model_validator(mode="after")
    def _data_of_the_task(self) -> Self:
        formats = [row.name for row in DATA.rows() if row.task == self.task]
        if self.data.format not in formats:
            raise ValueError(
                f"task {self.task} takes data.format {', '.join(formats)}, not {self.data.format}"
            )
        if not TASKS.row(self.task).takes_loss and self.loss != Loss():
            raise ValueError(f"loss has the terms of detection; the task {self.task} has none of them")
        return self

    @model_validator(mode="after")
    def _integers_in_order(self) -> Self:
        """What stages need of those before them, checked before anything is trained."""
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
                        remedy = f"set activation_bits: 8, or take {' and '.join(integers)} out of precisions"
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
        for name, body in cast("Mapping[Any, Any]", stages).items():
            keys = json_object({} if body is None else body)
            if keys is not None and "kind" not in keys and name in STAGES.names():
                keys = {"kind": name, **keys}
            filled[name] = body if keys is None else keys
        return filled


def load(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | Sequence[str] = ()) -> Recipe:
    """Read, override and check a recipe.

    `source` is a path, the name of a shipped recipe (`detector.yaml` or `detector`), or a mapping.
    `overrides` are `key=value` texts with dotted paths, or a mapping of dotted path to value.
    Raises RecipeError with every problem at once, each with file, line, value and remedy.
    """
    text = RecipeSource({}, {}, "recipe", None) if isinstance(source, Mapping) else parse(find_recipe(source))
    tree: Any = dict(source) if isinstance(source, Mapping) else text.tree
    tree, text = apply_overrides(tree, text, overrides)
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(problems_of(error, text, Recipe)) from None
    return resolve_paths(recipe, text)
