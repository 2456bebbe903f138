"""Applying a stage: the function of its config, and its result in the store."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import JsonValue

from edgec.core.network import Network
from edgec.core.results.other import InputResult
from edgec.core.results.stage import StageRecord, StageResult
from edgec.core.table import dotted
from edgec.env import Env
from edgec.recipe import Stage
from edgec.recipe.stage_results import record_of_json
from edgec.recipe.stages import STAGES
from edgec.run.keys import input_parts, key_parts
from edgec.run.sharing import shared, stored
from edgec.run.state import RunContext, RunState
from edgec.run.store import Result, key_of
from edgec.tasks.predictor import torch_predictor


@dataclass(frozen=True)
class Work:
    """One stage to be applied: its name in the recipe, its config, and its key with the parts."""

    name: str
    config: Stage
    key: str
    parts: Mapping[str, JsonValue]
    anew: bool  # whatever the store holds

    @classmethod
    def of(cls, name: str, config: Stage, context: RunContext, state: RunState) -> Work:
        parts = key_parts(config, context, state)
        # latency is never taken from the store
        anew = context.fresh or not STAGES.row(config.kind).cached
        return cls(name, config, key_of(parts), parts, anew)


def apply_and_store(work: Work, context: RunContext, state: RunState) -> Result:
    """Apply a stage and put its result into the store; ranks other than 0 take it from there."""
    from edgec.pruning.cost import cost_of
    from edgec.training.distributed import barrier

    folder = context.store.work(work.key)
    env = Env(
        context.task, work.name, context.events, state.dense, folder / "scratch", folder / f"out-{context.process_group.rank}",
        state.files, context.device, context.recipe.seed, context.process_group, context.allow_code,
    )  # fmt: skip
    if context.leads or STAGES.row(work.config.kind).trains:
        shutil.rmtree(env.out, ignore_errors=True)
        for each in (env.scratch, env.out):
            each.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        function = dotted(STAGES.row(work.config.kind).function)
        made: tuple[Network, StageResult] = function(work.config, state.network, env)
        network, result = made
        cost = cost_of(network.build(), context.task.example())
        seconds = round(time.monotonic() - began, 2)
        record = StageRecord(work.name, work.config.kind, result, False, seconds, cost)
        if context.leads:
            context.store.put(work.key, work.parts, Result(network, record.stored(), env.out), work.anew)
    barrier(context.process_group)
    return shared(context.store, work.key, context.allow_code)


def measure_input(context: RunContext, state: RunState) -> StageRecord:
    """What went in: the accuracy and the cost of the network as it came, unless it is untrained."""
    from edgec.pruning.cost import cost_of
    from edgec.training.distributed import barrier

    parts = input_parts(context, state.network)
    key = key_of(parts)
    with stored(
        context.store, key, "input", context.events, context.allow_code, context.process_group
    ) as found:
        if found is None and context.leads:
            module = state.network.build()
            cost = cost_of(module, context.task.example())
            result = InputResult()
            if context.recipe.network.weights is not None:
                accuracy = context.task.evaluate(torch_predictor(module, context.task, context.device), "val")
                result = InputResult(final=accuracy)
            record = StageRecord("input", "input", result, cost=cost)
            made = Result(state.network, record.stored(), context.store.work(key))
            found = context.store.put(key, parts, made)
        barrier(context.process_group)
    found = found or shared(context.store, key, context.allow_code)
    return replace(record_of_json("input", found.metrics), cached=True)
