"""The table of tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticKnownError

from edgec.core.contract.base import Contract
from edgec.core.contract.detection import DetectionContract
from edgec.core.contract.superres import SuperresContract
from edgec.core.errors import ExtensionError
from edgec.core.table import Table, choices


@dataclass(frozen=True)
class TaskSpec:
    """One task. `factory(recipe, events)`, named `package.module:name`, gives the task with its data."""

    name: str
    factory: str
    contract: type[Contract]  # of the artifacts of its networks
    takes_loss: bool = False  # the recipe's `loss` is for it
    starter: str = (
        ""  # a `StarterOf` (edgec.recipe.starter): the recipe that `edgec init` writes; "" for none
    )


TASKS = Table(
    "task",
    "edgec.tasks",
    TaskSpec,
    (
        TaskSpec(
            "detection", "edgec.tasks.detection.task:detection_of", DetectionContract, takes_loss=True,
            starter="edgec.tasks.detection.starter:starter",
        ),
        TaskSpec(
            "superres", "edgec.tasks.superres.task:superres_of", SuperresContract,
            starter="edgec.tasks.superres.starter:starter",
        ),
    ),
)  # fmt: skip


def known_task(name: str) -> str:
    """The name, where the table or an installed package has such a task. Raises pydantic's error of a Literal."""
    try:
        if TASKS.find(name) is not None:
            return name
    except ExtensionError as error:
        raise ValueError(str(error)) from None
    raise PydanticKnownError("literal_error", {"expected": choices(TASKS.names())})


TaskName = Annotated[
    str,
    AfterValidator(known_task),
    WithJsonSchema({"type": "string", "enum": [row.name for row in TASKS.own]}),
]
