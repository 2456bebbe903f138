"""Which modules a stage's result is made by: where `code_version` begins."""

from __future__ import annotations

from edgec.core.network import SHIPPED, Network
from edgec.recipe import (
    Boxes,
    ChannelWise,
    Custom,
    CustomTerm,
    Distiller,
    FeatureAffinity,
    FitNet,
    Logits,
    MeanSquared,
    Output,
    Pearson,
    SpatialAttention,
    Stage,
    Taught,
)
from edgec.tasks.protocol import Task

DISTILLERS = {
    Boxes: "boxes", ChannelWise: "cwd", FeatureAffinity: "affinity", FitNet: "fitnet", Logits: "logits", MeanSquared: "mse",
    Output: "output", Pearson: "pkd", SpatialAttention: "spatial_attention",
}  # fmt: skip
CONNECTED = (ChannelWise, FitNet, MeanSquared, Pearson)  # where channels differ, by the module of FitNet


def modules_of(config: Stage) -> list[str]:
    """The modules of a stage itself: its own, and those of the distillers that its terms name."""
    if isinstance(config, Custom):
        return [_module(config.function)]
    terms = config.terms if isinstance(config, Taught) else ()
    return [f"edgec.stages.{config.kind}", *(module for term in terms for module in _of_term(term))]


def modules_of_network(task: Task, *networks: Network) -> list[str]:
    """The modules of a task, and those of the architectures of networks."""
    own = [_module(n.arch) if ":" in n.arch else f"{SHIPPED}.{n.arch}" for n in networks]
    return [type(task).__module__, *own]


def _of_term(term: Distiller) -> list[str]:
    if isinstance(term, CustomTerm):
        return [_module(term.function)]
    shared = ["edgec.distillers.fitnet"] if isinstance(term, CONNECTED) else []
    return [f"edgec.distillers.{DISTILLERS[type(term)]}", *shared]


def _module(dotted: str) -> str:
    return dotted.partition(":")[0]
