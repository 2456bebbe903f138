"""Which modules a stage's result is made by: where `code_version` begins."""

from __future__ import annotations

from edgec.core.architectures import SHIPPED
from edgec.core.network import Network
from edgec.distillers.catalog import DISTILLERS
from edgec.distillers.custom import CustomTerm
from edgec.recipe import Custom, DistillationTraining, Distiller, Stage
from edgec.recipe.stages import STAGES
from edgec.tasks.protocol import Task


def modules_of(config: Stage) -> list[str]:
    """The modules of a stage itself: its own, and those of the distillers that its terms name."""
    if isinstance(config, Custom):
        return [_module(config.function)]
    terms = config.terms if isinstance(config, DistillationTraining) else ()
    return [
        _module(STAGES.row(config.kind).function),
        *(module for term in terms for module in _of_term(term)),
    ]


def modules_of_network(task: Task, *networks: Network) -> list[str]:
    """The modules of a task, and those of the architectures of networks."""
    own = [_module(n.arch) if ":" in n.arch else f"{SHIPPED}.{n.arch}" for n in networks]
    return [type(task).__module__, *own]


def _of_term(term: Distiller) -> list[str]:
    """The module of a distiller, and the user's that it calls; what they import follows by itself."""
    own = [_module(term.function)] if isinstance(term, CustomTerm) else []
    return [DISTILLERS.row(term.kind).terms.__module__, *own]


def _module(dotted: str) -> str:
    return dotted.partition(":")[0]
