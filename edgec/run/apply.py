"""Applying a stage: the function of its config, and its result in the store."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from edgec.core.errors import RecipeError
from edgec.core.network import Network, resolve_dotted
from edgec.core.results.other import CustomResult, InputResult
from edgec.core.results.stage import StageRecord, StageResult
from edgec.env import Env
from edgec.recipe import (
    Custom,
    Decompose,
    Distill,
    Export,
    Profile,
    Prune,
    QuantizationAware,
    Quantize,
    Sparsify,
    Stage,
    Train,
)
from edgec.run.keys import input_parts, key_parts
from edgec.run.sharing import shared, stored
from edgec.run.state import RunContext, RunState
from edgec.run.store import Result, key_of
from edgec.tasks.predictor import torch_predictor

TRAINING = (Train, Sparsify, Distill, QuantizationAware)


@dataclass(frozen=True)
class Work:
    """One stage to be applied: its name in the recipe, its config, and its key with the parts."""

    name: str
    config: Stage
    key: str
    parts: Mapping[str, Any]
    anew: bool  # whatever the store holds

    @classmethod
    def of(cls, name: str, config: Stage, context: RunContext, state: RunState) -> Work:
        parts = key_parts(config, context, state)
        # latency is never taken from the store
        return cls(name, config, key_of(parts), parts, context.fresh or isinstance(config, Profile))


def apply(config: Stage, network: Network, env: Env) -> tuple[Network, StageResult]:
    """The stage function of a config's type. One lazy import, no registry."""
    match config:
        case Train():
            from edgec.stages.train import train

            return train(config, network, env)
        case Sparsify():
            from edgec.stages.sparsify import sparsify

            return sparsify(config, network, env)
        case Prune():
            from edgec.stages.prune import prune

            return prune(config, network, env)
        case Decompose():
            from edgec.stages.decompose import decompose

            return decompose(config, network, env)
        case Distill():
            from edgec.stages.distill import distill

            return distill(config, network, env)
        case Quantize():
            from edgec.stages.quantize import quantize

            return quantize(config, network, env)
        case QuantizationAware():
            from edgec.stages.qad import qad

            return qad(config, network, env)
        case Export():
            from edgec.stages.export import export

            return export(config, network, env)
        case Profile():
            from edgec.stages.profile import profile

            return profile(config, network, env)
        case Custom():
            return _custom(config, network, env)
        case other:
            assert_never(other)


def _custom(config: Custom, network: Network, env: Env) -> tuple[Network, StageResult]:
    """A stage of the user's own. Its function gives the network, and its result or any JSON mapping."""
    if not env.allow_code:
        raise RecipeError(
            f"stages.{env.stage}.function {config.function!r} is your own code; pass --allow-code"
        )
    made, metrics = resolve_dotted(config.function)(config, network, env)
    return made, metrics if isinstance(metrics, StageResult) else CustomResult(metrics=metrics)


def apply_and_store(work: Work, context: RunContext, state: RunState) -> Result:
    """Apply a stage and put its result into the store; ranks other than 0 take it from there."""
    from edgec.pruning.cost import cost_of
    from edgec.training.distributed import barrier

    folder = context.store.work(work.key)
    env = Env(
        context.task, work.name, context.events, state.dense, folder / "scratch", folder / f"out-{context.world.rank}",
        state.files, context.device, context.recipe.seed, context.world, context.allow_code,
    )  # fmt: skip
    if context.leads or isinstance(work.config, TRAINING):
        shutil.rmtree(env.out, ignore_errors=True)
        for each in (env.scratch, env.out):
            each.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        network, result = apply(work.config, state.network, env)
        cost = cost_of(network.build(), context.task.example())
        seconds = round(time.monotonic() - began, 2)
        record = StageRecord(work.name, work.config.kind, result, False, seconds, cost)
        if context.leads:
            context.store.put(work.key, work.parts, Result(network, record.stored(), env.out), work.anew)
    barrier(context.world)
    return shared(context.store, work.key, context.allow_code)


def measure_input(context: RunContext, state: RunState) -> StageRecord:
    """What went in: the accuracy and the cost of the network as it came, unless it is untrained."""
    from edgec.pruning.cost import cost_of
    from edgec.training.distributed import barrier

    parts = input_parts(context, state.network)
    key = key_of(parts)
    with stored(context.store, key, "input", context.events, context.allow_code, context.world) as found:
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
        barrier(context.world)
    found = found or shared(context.store, key, context.allow_code)
    return StageRecord.of_stored("input", found.metrics, cached=True)
