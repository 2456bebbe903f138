"""`--dry-run`: check recipe, data and weights, and say what a run would do, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgec.core.events import Event, Events, Note
from edgec.core.network import Network
from edgec.core.table import dotted
from edgec.devices.inventory import reach
from edgec.pruning.cost import cost_of
from edgec.recipe import Recipe, Stage, load
from edgec.recipe.stages import STAGES
from edgec.run.initial_network import check_files, initial_network
from edgec.run.keys import key_parts
from edgec.run.machine import choose_device
from edgec.run.pipeline import devices_of
from edgec.run.state import RunContext, RunState, store_root
from edgec.run.store import Result, Store, key_of
from edgec.run.task import make_task
from edgec.tasks.protocol import Task

# What a stage would do to a network, line by line, without reading data: (config, its place in the recipe, the network,
# the task, `shaped`: whether the network has the structure that the stage will be given)
PlanFunction = Callable[[Any, str, Network, Task, bool], Iterator[str]]


def plan(
    recipe: str | Path | Mapping[str, Any],
    *,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    allow_code: bool = False,
    device: str = "auto",
) -> Iterator[str]:
    """The plan, line by line: network, data, stages (cached or not), groups, expected parameters and MACs.

    Raises what `compress` would raise for the recipe, the data and the weights.
    """
    checked = load(recipe, overrides)
    check_files(checked)
    reach(devices_of(checked))
    chosen = choose_device(device)
    notes: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.message)

    events = Events(listeners=(hear,))
    task = make_task(checked, events)
    network = initial_network(checked, task, allow_code)
    cost = cost_of(network.build(), task.example())
    yield f"recipe   {checked.name}: {checked.task}, seed {checked.seed}, device {chosen}"
    macs = f"{cost.macs / 1e6:,.1f} M MACs, {cost.padded_macs / 1e6:,.1f} M padded"
    yield f"network  {network.arch}: {cost.params:,} parameters, {macs}"
    splits = {split: task.size(split) for split in task.splits()}
    yield "data     " + ", ".join(f"{name} {count} images" for name, count in splits.items())
    for note in notes:
        yield f"note     {note}"
    context = RunContext(checked, task, Store(store_root()), events, chosen, allow_code=allow_code)
    yield from _stages(context, network)
    yield from _gates(checked)


def _stages(context: RunContext, network: Network) -> Iterator[str]:
    """Each stage: whether its result is in the store, and what can be said of it before it runs."""
    state = RunState(network, network)
    known = True  # the network so far is in the store, so keys can be made
    shaped = True  # its structure is the one that the stage will be given
    for name, config in context.recipe.stages.items():
        row = STAGES.row(config.kind)
        result = None
        if known and row.cached:
            result = context.store.get(key_of(key_parts(config, context, state)), context.allow_code)
        yield _line(name, config, result)
        if result is None:
            if row.plan:
                function: PlanFunction = dotted(row.plan)
                for line in function(config, f"stages.{name}", state.network, context.task, shaped):
                    yield f"         {line}"
            known = known and row.gives != "network"
            shaped = shaped and not row.reshapes
        elif row.gives == "artifacts":
            state.files_key = "cached"
        state.advance(config, state.network if result is None else result.network)


def _line(name: str, config: Stage, result: Result | None) -> str:
    status = "cached" if result else "to do" if STAGES.row(config.kind).cached else "measured again"
    where = f" on {', '.join(config.measured_on())}" if config.measured_on() else ""
    return f"stage    {name}: {config.kind}{config.details()}, {status}{where}"


def _gates(recipe: Recipe) -> Iterator[str]:
    promised: dict[str, float] = recipe.gates.model_dump(exclude_none=True, exclude={"artifact", "split"})
    for name, limit in promised.items():
        yield f"gate     {name}: {limit:g}"
