"""This machine: a separate measuring process for each job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from pydantic import JsonValue

from edgec.core.errors import StageError
from edgec.core.events import Events
from edgec.devices.device import waiting_for
from edgec.devices.probe_answer import answer_of, default_deadline, late, subject_of
from edgec.devices.probe_job import ProbeJob
from edgec.onnx.files import files_of
from edgec.probe.describe import allowed_cores, cpu_flags, cpu_name, environment
from edgec.probe.lease import held

__all__ = ["Local", "allowed_cores", "cpu_flags", "cpu_name", "environment", "probe", "torch_worker"]

PROBE = Path(__file__).parents[1] / "probe"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Local:
    """This machine as a device."""

    name = "local"

    def lease(self, events: Events) -> AbstractContextManager[None]:
        return held("device", waiting_for(self.name, events))

    def environment(self) -> dict[str, JsonValue]:
        return environment()

    def probe(self, job: ProbeJob, deadline_s: float | None = None) -> dict[str, JsonValue]:
        if str(job["artifact"]).endswith(".onnx"):
            files_of(Path(str(job["artifact"])))  # for its errors
        ask = torch_worker if str(job["runtime"]).startswith("torch") else probe
        return ask(job, deadline_s)

    def close(self) -> None:
        pass


def probe(job: ProbeJob, deadline_s: float | None = None) -> dict[str, JsonValue]:
    """Run a job of `edgec.probe` in a fresh process and give its answer.

    Raises Missing when the runtime is not installed, StageError when the artifact cannot be measured, the process
    crashed, or it took longer than `deadline_s`.
    """
    return _ask([sys.executable, str(PROBE)], job, deadline_s)


def torch_worker(job: ProbeJob, deadline_s: float | None = None) -> dict[str, JsonValue]:
    """Run a job of `edgec.bench.torch_worker` in a fresh process and give its answer."""
    return _ask([sys.executable, "-P", "-m", "edgec.bench.torch_worker"], job, deadline_s)


def _ask(command: list[str], job: ProbeJob, deadline_s: float | None) -> dict[str, JsonValue]:
    what = subject_of(job)
    limit = deadline_s if deadline_s is not None else default_deadline(job)
    try:
        done = subprocess.run(
            command,
            input=json.dumps(job),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=limit,
            env=child_environment(int(job["threads"])),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise late(what, limit) from None
    except OSError as error:
        raise StageError(f"{what}: the measuring process cannot be started ({error})") from error
    return answer_of(done.stdout, done.stderr, done.returncode, what)


def child_environment(threads: int) -> dict[str, str]:
    """Variables of a measuring process: it finds what this one finds, in the same order."""
    counts = {name: str(threads) for name in THREAD_VARIABLES}
    places = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
    return {**os.environ, **counts, "PYTHONPATH": places}
