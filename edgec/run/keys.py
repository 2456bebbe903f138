"""Everything that a stage's result depends on, for its key in the store."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue

from edgec.core.network import Network
from edgec.recipe import Stage
from edgec.recipe.stages import STAGES
from edgec.run.code_modules import modules_of, modules_of_network
from edgec.run.code_version import code_behind
from edgec.run.state import RunContext, RunState


def key_parts(config: Stage, context: RunContext, state: RunState) -> dict[str, JsonValue]:
    """The parts of the key of a stage that is applied to the network of `state`."""
    row, source = STAGES.row(config.kind), config.teacher_source()
    teacher = Network.load(source, context.allow_code) if isinstance(source, Path) else state.dense
    code = code_behind([*modules_of(config), *modules_of_network(context.task, state.network, teacher)])
    parts: dict[str, JsonValue] = {
        "config": config.model_dump(mode="json", exclude={"workers"}),
        "code": code.digest,
        "libraries": {**code.versions(*config.libraries())},
        "network": state.network.digest,
        "data": context.task.digest(),
        "seed": context.recipe.seed,
        "device": context.device,
        "ranks": context.process_group.size,
    }
    if source is not None:
        parts["teacher"] = teacher.digest
    if row.dense:
        parts["dense"] = state.dense.digest
    if row.reads_artifacts:
        parts["artifacts"] = state.files_key
    if not row.cached:
        parts["run"] = context.number
    return parts


def input_parts(context: RunContext, network: Network) -> dict[str, JsonValue]:
    """The parts of the key of what went in: its accuracy and cost."""
    code = code_behind(
        ["edgec.pruning.cost", "edgec.tasks.predictor", *modules_of_network(context.task, network)]
    )
    return {
        "input": network.digest,
        "data": context.task.digest(),
        "code": code.digest,
        "libraries": {**code.versions()},
        "device": context.device,
    }
