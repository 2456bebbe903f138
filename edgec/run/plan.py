"""`--dry-run`: check recipe, data and weights, and say what a run would do, without training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgec.core.errors import StageError
from edgec.core.events import Events
from edgec.devices.inventory import reach
from edgec.pruning.cost import cost_of
from edgec.recipe import Export, Profile, Prune, Training, load
from edgec.recipe.stages import STAGES
from edgec.run.initial_network import check, initial_network
from edgec.run.machine import choose_device
from edgec.run.pipeline import Line, World, devices_of, key_parts, make_task, store_root
from edgec.run.store import Store, key_of


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
    task = make_task(checked, Events(listeners=(lambda e: notes.append(getattr(e, "message", "")),)))
    network = initial_network(checked, task, allow_code)
    cost = cost_of(network.build(), task.example())
    yield f"recipe   {checked.name}: {checked.task}, seed {checked.seed}, device {chosen}"
    macs = f"{cost.macs / 1e6:,.1f} M MACs, {cost.padded_macs / 1e6:,.1f} M padded"
    yield f"network  {network.arch}: {cost.params:,} parameters, {macs}"
    splits = {split: task.size(split) for split in task.splits()}
    yield "data     " + ", ".join(f"{name} {count} images" for name, count in splits.items())
    for note in filter(None, notes):
        yield f"note     {note}"
    store = Store(store_root())
    line = Line(network, network)
    known = True  # the network so far is in the store, so keys can be told
    leading = True
    for name, config in checked.stages.items():
        if leading and STAGES.row(config.kind).compresses:
            leading, line.dense = False, line.network
        result = None
        if known and not isinstance(config, Profile):
            result = store.get(key_of(key_parts(config, checked, task, line, chosen, World())), allow_code)
        epochs = f", {config.epochs} epochs" if isinstance(config, Training) else ""
        state = "measured anew" if isinstance(config, Profile) else "cached" if result else "to do"
        where = f" on {', '.join(config.devices)}" if isinstance(config, Profile) else ""
        yield f"stage    {name}: {config.kind}{epochs}, {state}{where}"
        if isinstance(config, Prune) and result is None:
            yield from _pruning(config, f"stages.{name}", line, task)
        if result is None:
            known = known and isinstance(config, Export | Profile)
            continue
        line.network = result.network
        if isinstance(config, Export):
            line.files_key = "cached"
        if leading:
            line.dense = line.network
    for name, limit in checked.gates.model_dump(exclude_none=True, exclude={"artifact", "split"}).items():
        yield f"gate     {name}: {limit:g}"


def _pruning(config: Prune, place: str, line: Line, task: Any) -> Iterator[str]:
    """Groups and what pruning by them would leave; the ranking itself may still change by training.

    Channels are ranked by size, without the data. A target that this ranking cannot reach is an error only where the run
    ranks likewise.
    """
    from edgec.stages.prune import plan_summary, ranks_by_size

    try:
        summary = plan_summary(config, line.network, task, place)
    except StageError as error:
        if ranks_by_size(config, line.network, task):
            raise
        yield f"         ranked by size: {error}; the run ranks by the loss, and may reach it"
        return
    for group in summary["groups"]:
        yield f"         group {group['name']}: {group['before']} channels, {group['kept']} expected to stay"
    before, after = summary["before"], summary["after"]
    yield (
        f"         expected {after['params']:,} of {before['params']:,} parameters, "
        f"{after['macs'] / 1e6:,.1f} of {before['macs'] / 1e6:,.1f} M MACs"
    )
