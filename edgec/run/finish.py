"""The end of a run: artifacts into its folder, gates, the stages' figures, the report and the manifest."""

from __future__ import annotations

import json
import shutil
import time

from edgec.core.files import write_atomic
from edgec.core.results.export import ExportResult
from edgec.core.results.profile import ProfileResult
from edgec.core.version import __version__
from edgec.run.gates import check_gates, shipped_artifact
from edgec.run.machine import environment
from edgec.run.rundir import RunDir
from edgec.run.state import Run, RunContext, RunState


def finish(context: RunContext, state: RunState, folder: RunDir, command: str, started: float) -> Run:
    """Copy the artifacts, check the gates, write the stages, the report and the manifest.

    `started`: by the monotonic clock, in seconds.
    """
    from edgec.report.build import Finished, write_report

    recipe, task = context.recipe, context.task
    exported, profile = state.last(ExportResult), state.last(ProfileResult)
    verdicts = check_gates(recipe.gates, task.metrics[0], exported, profile, state.network.parameters)
    if profile is None and recipe.gates.min_speedup:
        context.events.note("a gate on speed needs the profile stage", level="warning")
    target = folder.folder / ("artifacts" if all(v.kept for v in verdicts) else "rejected")
    for made in (state.files, state.packages):
        if made is not None:
            shutil.copytree(made, target, dirs_exist_ok=True)
    state.network.save(target / "network")
    for index, record in enumerate(state.stages.values()):
        place = folder.folder / "stages" / f"{index:02d}-{record.name}" / "metrics.json"
        write_atomic(place, json.dumps(record.to_json(), indent=1).encode())
    run = Run(folder.folder, recipe, state.network, state.stages, tuple(verdicts), time.monotonic() - started)
    shipped = shipped_artifact(recipe.gates, exported)
    write_report(
        Finished(
            run.folder,
            recipe=recipe,
            task=task,
            records=list(state.stages.values()),
            gates=verdicts,
            shipped=shipped.precision if shipped else None,
            artifacts=target,
            dense=state.dense,
            network=state.network,
            environment=environment(),
            command=command,
            seconds=run.seconds,
            device=context.device,
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
            "network": state.network.digest,
            "dense": state.dense.digest,
            "gates": [v.model_dump(mode="json") for v in verdicts],
        }
    )
    return run
