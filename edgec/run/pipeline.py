"""The loop: for each stage the cached result, or apply it and record.

`compress` is the Python twin of `edgec compress`. Under torchrun every rank runs the stages that train;
rank 0 alone runs the others, writes the store and the run's folder.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgec.core.architectures import resolve_dotted
from edgec.core.errors import EdgecError, GateBroken, Interrupted, RecipeError
from edgec.core.events import Events, Listener, RunEnded, RunStarted, StageEnded, StageStarted
from edgec.core.files import disk_error
from edgec.core.network import Network
from edgec.core.table import dotted
from edgec.core.version import __version__
from edgec.devices.inventory import reach
from edgec.env import Env, World
from edgec.recipe import Custom, Export, Profile, Quantize, Recipe, Stage, Taught, load
from edgec.recipe.stages import STAGES
from edgec.recipe.tasks import TASKS
from edgec.run.code_modules import modules_of, modules_of_network
from edgec.run.code_version import code_behind
from edgec.run.gates import Verdict, shipped_precision
from edgec.run.gates import check as check_gates
from edgec.run.initial_network import check, initial_network
from edgec.run.machine import choose_device, environment
from edgec.run.rundir import RunDir
from edgec.run.sharing import run_number, shared, stored
from edgec.run.store import Result, Store, key_of
from edgec.tasks.predictor import torch_predictor
from edgec.tasks.protocol import Task

StageResult = tuple[Network, dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """What one `compress` made."""

    folder: Path
    recipe: Recipe
    network: Network
    stages: Mapping[str, Mapping[str, Any]]  # metrics of each stage, by name, in order
    gates: tuple[Verdict, ...]
    seconds: float

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def artifacts(self) -> Path:
        """The folder of the artifacts: `rejected/` when a gate is broken."""
        return self.folder / ("artifacts" if self.kept else "rejected")

    @property
    def kept(self) -> bool:
        return all(verdict.kept for verdict in self.gates)


@dataclass
class Line:
    """Where the pipeline stands: grows stage by stage."""

    network: Network
    dense: Network
    stages: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    files: Path | None = None  # of the last export
    files_key: str = ""
    packages: Path | None = None  # what the last profile stage made for other runtimes
    run: int = 0  # stands for the run's folder: what is measured is this run's own


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
    check(checked)
    chosen = choose_device(device)
    world = join_world(chosen)
    lead = world.rank == 0
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
            task = make_task(checked, events)
            store = Store(store_root())
            if folder and (note := store.begin()):
                events.note(note, level="warning")
            number = run_number(folder.folder if folder else None, world)
            line = _walk(checked, task, store, events, chosen, world, fresh, allow_code, number)
            if folder is None:
                return Run(store.root, checked, line.network, line.stages, (), time.monotonic() - started)
            finished = _finish(checked, task, folder, line, events, chosen, command, started)
        status = "done" if finished.kept else "gate broken"
        if not finished.kept:
            broken = "\n".join(
                f"{v.promise} {v.limit:g}: measured {'nothing' if v.measured is None else f'{v.measured:.4g}'}; {v.remedy}"
                for v in finished.gates
                if not v.kept
            )
            raise GateBroken(
                f"{broken}\nartifacts are under {finished.artifacts}, the report is {finished.report}"
            )
        return finished
    except (KeyboardInterrupt, Interrupted):
        status = "interrupted"
        raise Interrupted("interrupted; the same command goes on where it was") from None
    except OSError as error:
        storage = disk_error(error)
        if storage is None:
            raise
        raise storage from error
    finally:
        events.emit(RunEnded(status, {}))
        events.close()
        if folder:
            folder.close()


def _walk(
    recipe: Recipe,
    task: Task,
    store: Store,
    events: Events,
    device: str,
    world: World,
    fresh: bool,
    allow_code: bool,
    run: int,
) -> Line:
    """All stages in order."""
    network = initial_network(recipe, task, allow_code)
    line = Line(network, network, run=run)
    _measure_input(recipe, task, store, events, line, device, world)
    leading = True  # still before the first compressing stage
    for name, config in recipe.stages.items():
        if leading and STAGES.row(config.kind).compresses:
            leading, line.dense = False, line.network
        parts = key_parts(config, recipe, task, line, device, world)
        key = key_of(parts)
        anew = fresh or not STAGES.row(config.kind).cached  # latency is never taken from the store
        with stored(store, key, name, events, allow_code, world, anew) as result:
            cached = result is not None
            reason = "" if cached or world.rank else store.why(f"{recipe.name}-{name}", parts)
            events.emit(StageStarted(name, key, cached, reason))
            began = time.monotonic()
            if result is None:
                if world.rank == 0:
                    store.remember(f"{recipe.name}-{name}", parts)
                result = _apply_and_store(
                    config, name, recipe, task, store, key, parts, line, events, device, world, anew
                )
        line.network = replace(result.network, allow_code=allow_code)
        line.stages[name] = {"kind": config.kind, "cached": cached, **result.metrics}
        if isinstance(config, Export):
            line.files, line.files_key = result.files, key
        if isinstance(config, Profile):
            line.packages = result.files
        if leading:
            line.dense = line.network
        shown = dict(result.metrics.get("final", {}))
        events.emit(StageEnded(name, time.monotonic() - began, cached, shown))
    return line


def _apply_and_store(
    config: Stage,
    name: str,
    recipe: Recipe,
    task: Task,
    store: Store,
    key: str,
    parts: Mapping[str, Any],
    line: Line,
    events: Events,
    device: str,
    world: World,
    replace_stored: bool,
) -> Result:
    """Apply a stage and put its result into the store; ranks other than 0 take it from there."""
    from edgec.pruning.cost import cost_of
    from edgec.training.distributed import barrier

    work = store.work(key)
    env = Env(
        task, name, events, line.dense, work / "scratch", work / f"out-{world.rank}", line.files, device,
        recipe.seed, world, line.network.allow_code,
    )  # fmt: skip
    if world.rank == 0 or STAGES.row(config.kind).trains:
        shutil.rmtree(env.out, ignore_errors=True)
        for folder in (env.scratch, env.out):
            folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        network, metrics = apply(config, line.network, env)
        cost = cost_of(network.build(), task.example())
        metrics = {
            **metrics,
            "seconds": round(time.monotonic() - began, 2),
            "cost": {"params": cost.params, "macs": cost.macs, "padded_macs": cost.padded_macs},
        }
        if world.rank == 0:
            store.put(key, parts, Result(network, metrics, env.out), replace_stored)
    barrier(world)
    return shared(store, key, line.network.allow_code)


def apply(config: Stage, network: Network, env: Env) -> StageResult:
    """Run the function of a config's kind. Raises RecipeError for the user's own one without --allow-code."""
    if isinstance(config, Custom):
        if not env.allow_code:
            raise RecipeError(
                f"stages.{env.stage}.function {config.function!r} is your own code; pass --allow-code"
            )
        return resolve_dotted(config.function)(config, network, env)
    changed, result = dotted(STAGES.row(config.kind).function)(config, network, env)
    return changed, result.model_dump(mode="json") if isinstance(result, BaseModel) else result


def key_parts(
    config: Stage, recipe: Recipe, task: Task, line: Line, device: str, world: World
) -> dict[str, Any]:
    """Everything that a stage's result depends on."""
    teacher = line.dense
    if isinstance(config, Taught) and isinstance(config.teacher, Path):
        teacher = Network.load(config.teacher, line.network.allow_code)
    code = code_behind([*modules_of(config), *modules_of_network(task, line.network, teacher)])
    calibrates_elsewhere = isinstance(config, Quantize) and config.backend == "neural-compressor"
    parts: dict[str, Any] = {
        "config": config.model_dump(mode="json", exclude={"workers"}),
        "code": code.digest,
        "libraries": code.versions(
            *(("neural-compressor", "neural-compressor-pt") if calibrates_elsewhere else ())
        ),
        "network": line.network.digest,
        "data": task.digest(),
        "seed": recipe.seed,
        "device": device,
        "ranks": world.size,
    }
    if isinstance(config, Taught):
        parts["teacher"] = teacher.digest
    if STAGES.row(config.kind).dense:
        parts["dense"] = line.dense.digest
    if isinstance(config, Profile):
        parts["artifacts"] = line.files_key
        parts["run"] = line.run
    return parts


def _measure_input(
    recipe: Recipe, task: Task, store: Store, events: Events, line: Line, device: str, world: World
) -> None:
    """What went in: the accuracy and the cost of the network as it came, unless it is untrained."""
    from edgec.pruning.cost import cost_of
    from edgec.training.distributed import barrier

    code = code_behind(
        ["edgec.pruning.cost", "edgec.tasks.predictor", *modules_of_network(task, line.network)]
    )
    parts = {
        "input": line.network.digest,
        "data": task.digest(),
        "code": code.digest,
        "libraries": code.versions(),
        "device": device,
    }
    key, allow_code = key_of(parts), line.network.allow_code
    with stored(store, key, "input", events, allow_code, world) as found:
        if found is None and world.rank == 0:
            module = line.network.build()
            cost = cost_of(module, task.example())
            metrics: dict[str, Any] = {
                "cost": {"params": cost.params, "macs": cost.macs, "padded_macs": cost.padded_macs},
                "final": {},
            }
            if recipe.network.weights is not None:
                metrics["final"] = task.evaluate(torch_predictor(module, task, device), "val")
            found = store.put(key, parts, Result(line.network, metrics, store.work(key)))
        barrier(world)
    found = found or shared(store, key, allow_code)
    line.stages["input"] = {"kind": "input", "cached": True, **found.metrics}


def _finish(
    recipe: Recipe,
    task: Task,
    folder: RunDir,
    line: Line,
    events: Events,
    device: str,
    command: str,
    started: float,
) -> Run:
    """Copy the artifacts, check the gates, write the stages, the report and the manifest."""
    from edgec.core.results.kinds import record_of_json
    from edgec.report.build import Finished, write_report
    from edgec.report.model import Gate

    exported = next((m for m in reversed(line.stages.values()) if m["kind"] == "export"), {})
    profiled = next((m for m in reversed(line.stages.values()) if m["kind"] == "profile"), {})
    artifacts: Mapping[str, Any] = exported.get("artifacts", {})
    verdicts = tuple(check_gates(recipe.gates, task.metrics[0], artifacts, profiled, line.network.parameters))
    if not profiled.get("cells") and recipe.gates.min_speedup:
        events.note("a gate on speed needs the profile stage", level="warning")
    target = folder.folder / ("artifacts" if all(v.kept for v in verdicts) else "rejected")
    for made in (line.files, line.packages):
        if made is not None:
            shutil.copytree(made, target, dirs_exist_ok=True)
    line.network.save(target / "network")
    for index, (name, metrics) in enumerate(line.stages.items()):
        _write_json(folder.folder / "stages" / f"{index:02d}-{name}" / "metrics.json", metrics)
    run = Run(folder.folder, recipe, line.network, line.stages, verdicts, time.monotonic() - started)
    write_report(
        Finished(
            run.folder,
            recipe=recipe,
            task=task,
            records=[record_of_json(name, metrics) for name, metrics in line.stages.items()],
            gates=[Gate.model_validate(v.to_json()) for v in verdicts],
            shipped=shipped_precision(recipe.gates, artifacts),
            artifacts=target,
            dense=line.dense,
            network=line.network,
            environment=environment(),
            command=command,
            seconds=run.seconds,
            device=device,
        )
    )
    folder.finish(
        {
            "edgec": __version__,
            "recipe": recipe.name,
            "seed": recipe.seed,
            "command": command,
            "environment": environment(),
            "data": task.digest(),
            "network": line.network.digest,
            "dense": line.dense.digest,
            "gates": [v.to_json() for v in verdicts],
        }
    )
    return run


def _write_json(path: Path, tree: Mapping[str, Any]) -> None:
    import json

    from edgec.core.files import write_atomic

    write_atomic(path, json.dumps(tree, indent=1, default=str).encode())


def devices_of(recipe: Recipe) -> list[str]:
    """All devices that the recipe measures on, by name or address."""
    return [
        name for config in recipe.stages.values() if isinstance(config, Profile) for name in config.devices
    ]


def make_task(recipe: Recipe, events: Events | None) -> Task:
    """The task of a recipe, with its data. Raises DataError that lists every problem of it."""
    return dotted(TASKS.row(recipe.task).factory)(recipe, events)


def join_world(device: str) -> World:
    """The processes that torchrun started, or this one alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World()
    from edgec.training.distributed import init_from_environment

    return init_from_environment(device)


def store_root() -> Path:
    """Where stage results are kept: EDGEC_STORE, or runs/.store under the current folder."""
    return Path(os.environ.get("EDGEC_STORE", Path("runs") / ".store"))


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM end the work the way ctrl-C does, inside the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before: Callable[..., Any] | int | None = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


__all__ = ["EdgecError", "Run", "apply", "compress"]
