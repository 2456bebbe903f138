"""`--dry-run`: check recipe, data and weights, and say what a run would do, without training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgec.core.errors import StageError
from edgec.core.events import Event, Events, Note
from edgec.core.network import Network
from edgec.devices.inventory import reach
from edgec.pruning.cost import cost_of
from edgec.recipe import Custom, Decompose, Export, Profile, Prune, Recipe, Stage, Training, load
from edgec.recipe.stages import STAGES
from edgec.run.initial_network import check, initial_network
from edgec.run.keys import key_parts
from edgec.run.machine import choose_device
from edgec.run.pipeline import devices_of
from edgec.run.state import RunContext, RunState, store_root
from edgec.run.store import Result, Store, key_of
from edgec.run.task import make_task
from edgec.tasks.protocol import Building


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
    check(checked)
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
        result = None
        if known and not isinstance(config, Profile):
            result = context.store.get(key_of(key_parts(config, context, state)), context.allow_code)
        yield _line(name, config, result)
        if result is None:
            if isinstance(config, Prune):
                yield from _pruning(config, f"stages.{name}", state.network, context.task)
            if isinstance(config, Decompose):
                yield from _decomposing(config, f"stages.{name}", state.network, context.task, shaped)
            known = known and isinstance(config, Export | Profile)
            shaped = shaped and not _reshapes(config)
        elif isinstance(config, Export):
            state.files_key = "cached"
        state.advance(config, state.network if result is None else result.network)


def _reshapes(config: Stage) -> bool:
    """Whether the network may have another structure after a stage; only edgec's own kinds are known not to."""
    own = [row.name for row in STAGES.own]
    return isinstance(config, Prune | Decompose | Custom) or config.kind not in own


def _line(name: str, config: Stage, result: Result | None) -> str:
    what = f"{config.kind} {config.function}" if isinstance(config, Custom) else config.kind
    epochs = f", {config.epochs} epochs" if isinstance(config, Training) else ""
    status = "measured anew" if isinstance(config, Profile) else "cached" if result else "to do"
    where = f" on {', '.join(config.devices)}" if isinstance(config, Profile) else ""
    return f"stage    {name}: {what}{epochs}, {status}{where}"


def _pruning(config: Prune, place: str, network: Network, task: Building) -> Iterator[str]:
    """Groups and what pruning by them would leave; the ranking itself may still change by training.

    Channels are ranked by size, without the data. A target that this ranking cannot reach is an error only where the run
    ranks likewise.
    """
    from edgec.stages.prune import plan_summary, ranks_by_size

    try:
        summary = plan_summary(config, network, task, place)
    except StageError as error:
        if ranks_by_size(config, network, task):
            raise
        yield f"         ranked by size: {error}; the run ranks by the loss, and may reach it"
        return
    for group in summary.groups:
        yield f"         group {group.name}: {group.before} channels, {group.kept} expected to stay"
    before, after = summary.before, summary.after
    yield (
        f"         expected {after.params:,} of {before.params:,} parameters, "
        f"{after.macs / 1e6:,.1f} of {before.macs / 1e6:,.1f} M MACs"
    )


def _decomposing(
    config: Decompose, place: str, network: Network, task: Building, shaped: bool
) -> Iterator[str]:
    """The layers that can be decomposed, and the fewest MACs; ranks are chosen by what the data shows.

    A target that cannot be reached is an error only where the network has its structure already (`shaped`).
    """
    from edgec.stages.decompose import check_reach, choices_of

    choices = choices_of(config, network, task, place)
    if shaped:
        check_reach(config, choices, place)
    asked, before = config.keep_macs * choices.before.macs, choices.before.macs
    of = "" if shaped else ", as the network is now"
    yield f"         {len(choices.costs)} convolutions can be decomposed: {', '.join(choices.costs)}"
    yield (
        f"         at most {asked / 1e6:,.1f} of {before / 1e6:,.1f} M MACs are allowed; the least keep_macs is "
        f"{choices.least_share:.3f}{of}"
    )


def _gates(recipe: Recipe) -> Iterator[str]:
    promised: dict[str, float] = recipe.gates.model_dump(exclude_none=True, exclude={"artifact", "split"})
    for name, limit in promised.items():
        yield f"gate     {name}: {limit:g}"
