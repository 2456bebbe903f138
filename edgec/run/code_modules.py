"""Which modules a stage's result is made by: where `code_version` begins."""

from __future__ import annotations

from edgec.core.architectures import SHIPPED
from edgec.core.network import Network
from edgec.recipe import Stage
from edgec.recipe.stages import STAGES
from edgec.tasks.protocol import Task


def modules_of(config: Stage) -> list[str]:
    """The modules of a stage itself: its own, and those that its config names; what they import follows by itself."""
    return [_module(STAGES.row(config.kind).function), *config.modules()]


def modules_of_network(task: Task, *networks: Network) -> list[str]:
    """The modules of a task, and those of the architectures of networks."""
    own = [_module(n.arch) if ":" in n.arch else f"{SHIPPED}.{n.arch}" for n in networks]
    return [type(task).__module__, *own]


def _module(dotted: str) -> str:
    return dotted.partition(":")[0]
