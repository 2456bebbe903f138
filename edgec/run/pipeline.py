"""The loop: for each stage the cached result, or apply it and record.

`compress` is the Python twin of `edgec compress`. Under torchrun every rank runs the stages that train;
rank 0 alone runs the others, writes the store and the run's folder.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgec.core.errors import GateBroken, Interrupted
from edgec.core.events import Events, Listener, RunEnded, RunStarted, StageEnded, StageStarted
from edgec.core.files import disk_error
from edgec.devices.inventory import reach
from edgec.recipe import Recipe, load
from edgec.recipe.stage_results import record_of_json
from edgec.recipe.stages import STAGES
from edgec.run.apply import Work, apply_and_store, measure_input
from edgec.run.finish import finish
from edgec.run.initial_network import check_files, initial_network
from edgec.run.machine import choose_device, environment
from edgec.run.process import interruptible, join_process_group
from edgec.run.rundir import RunDir
from edgec.run.sharing import run_number, stored
from edgec.run.state import Run, RunContext, RunState, store_root
from edgec.run.store import Store
from edgec.run.task import make_task


def compress(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    *,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    run: Path | None = None,
    device: str = "auto",
    fresh: bool = False,
    allow_code: bool = False,
    listeners: Sequence[Listener] = (),
    command: str = "",
) -> Run:
    """Run a recipe from its network to verified artifacts and a report.

    Raises RecipeError, DataError, NetworkError, StageError, Missing, StorageError, Interrupted, and GateBroken
    when an artifact breaks a promise: the run's folder is complete then, with its artifacts under `rejected/`.
    """
    started = time.monotonic()
    checked = recipe if isinstance(recipe, Recipe) else load(recipe, overrides)
    check_files(checked)
    chosen = choose_device(device)
    process_group = join_process_group(chosen)
    lead = process_group.rank == 0
    if lead:
        reach(devices_of(checked))
    folder = RunDir.choose(checked, run) if lead else None
    events = Events(folder.folder / "events.jsonl" if folder else None, tuple(listeners) if lead else ())
    status = "failed"
    try:
        with interruptible():
            command = command or shlex.join(sys.argv)
            if folder:
                folder.begin(checked)
                events.emit(RunStarted(checked.name, command, environment()))
            store = Store(store_root())
            if folder and (note := store.begin()):
                events.note(note, level="warning")
            number = run_number(folder.folder if folder else None, process_group)
            context = RunContext(
                checked,
                make_task(checked, events),
                store,
                events,
                chosen,
                process_group,
                fresh,
                allow_code,
                number,
            )
            state = walk(context)
            if folder is None:
                return Run(store.root, checked, state.network, state.stages, (), time.monotonic() - started)
            finished = finish(context, state, folder, command, started)
        status = "done" if finished.kept else "gate broken"
        if not finished.kept:
            raise GateBroken(_broken(finished))
        return finished
    except (KeyboardInterrupt, Interrupted):
        status = "interrupted"
        raise Interrupted("interrupted; run the same command to resume") from None
    except OSError as error:
        storage = disk_error(error)
        if storage is None:
            raise
        raise storage from error
    finally:
        events.emit(RunEnded(status))
        events.close()
        if folder:
            folder.close()


def walk(context: RunContext) -> RunState:
    """All stages in order, each taken from the store or applied."""
    network = initial_network(context.recipe, context.task, context.allow_code)
    state = RunState(network, network)
    state.stages["input"] = measure_input(context, state)
    for name, config in context.recipe.stages.items():
        work = Work.of(name, config, context, state)
        last = f"{context.recipe.name}-{name}"
        with stored(
            context.store,
            work.key,
            name,
            context.events,
            context.allow_code,
            context.process_group,
            work.anew,
        ) as result:
            cached = result is not None
            reason = "" if cached or not context.leads else context.store.why(last, work.parts)
            context.events.emit(StageStarted(name, work.key, cached, reason))
            began = time.monotonic()
            if result is None:
                if context.leads:
                    context.store.remember(last, work.parts)
                result = apply_and_store(work, context, state)
        record = replace(record_of_json(name, result.metrics), cached=cached)
        state.advance(config, replace(result.network, allow_code=context.allow_code))
        state.stages[name] = record
        match STAGES.row(config.kind).gives:
            case "artifacts":
                state.files, state.files_key = result.files, work.key
            case "packages":
                state.packages = result.files
            case "network":
                pass
        final = record.result.final
        shown = {} if final is None else final.flat()
        context.events.emit(StageEnded(name, time.monotonic() - began, cached, shown))
    return state


def _broken(run: Run) -> str:
    """The promises that were broken, and where things are."""
    lines = [
        f"{v.promise} {v.limit:g}: measured {'nothing' if v.measured is None else f'{v.measured:.4g}'}; {v.remedy}"
        for v in run.gates
        if not v.kept
    ]
    return "\n".join([*lines, f"artifacts are under {run.artifacts}, the report is {run.report}"])


def devices_of(recipe: Recipe) -> list[str]:
    """All devices that the recipe measures on, by name or address."""
    return [name for config in recipe.stages.values() for name in config.measured_on()]
