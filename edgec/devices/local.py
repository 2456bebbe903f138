"""This machine: its description, and a measuring process of its own for each job."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

from edgec.errors import EdgecError, Missing, StageError

PROBE = Path(__file__).parent / "probe"
SPARE_SECONDS = 120.0  # for starting Python, importing a runtime and loading a large file
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def probe(job: Mapping[str, Any], deadline_s: float | None = None) -> dict[str, Any]:
    """Run a job of `edgec.devices.probe` in a fresh process and give its answer.

    Raises Missing when the runtime is not there, StageError when the artifact cannot be measured, the process
    crashed, or it took longer than `deadline_s`.
    """
    return _ask([sys.executable, str(PROBE)], job, deadline_s)


def torch_worker(job: Mapping[str, Any], deadline_s: float | None = None) -> dict[str, Any]:
    """Run a job of `edgec.devices.torch_worker` in a fresh process and give its answer."""
    return _ask([sys.executable, "-P", "-m", "edgec.devices.torch_worker"], job, deadline_s)


def _ask(command: list[str], job: Mapping[str, Any], deadline_s: float | None) -> dict[str, Any]:
    what = f"{Path(str(job['artifact'])).name} in {job['runtime']} with {job['threads']} thread(s)"
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
        raise StageError(
            f"{what}: no answer in {limit:.0f} s, so the measuring process was ended; "
            "is the machine overloaded, or the network too slow for it?"
        ) from None
    except OSError as error:
        raise StageError(f"{what}: the measuring process cannot be started ({error})") from error
    return _answer(done, what)


def child_environment(threads: int) -> dict[str, str]:
    """Variables of a measuring process: it finds what this one finds, in the same order."""
    counts = {name: str(threads) for name in THREAD_VARIABLES}
    places = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
    return {**os.environ, **counts, "PYTHONPATH": places}


def default_deadline(job: Mapping[str, Any]) -> float:
    """Seconds after which a measuring process counts as hung."""
    return SPARE_SECONDS + 10 * (float(job.get("warmup_seconds", 0.0)) + float(job["max_seconds"]))


def _answer(done: subprocess.CompletedProcess[str], what: str) -> dict[str, Any]:
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    try:
        answer: Any = json.loads(lines[-1]) if lines else None
    except ValueError:
        answer = None
    if isinstance(answer, dict) and "error" in answer:
        raise_error(answer, what)
    if done.returncode != 0 or not isinstance(answer, dict):
        tail = " | ".join(done.stderr.strip().splitlines()[-3:]) or "no message"
        raise StageError(f"{what}: the measuring process {ending(done.returncode)}: {tail}")
    return answer


def raise_error(answer: Mapping[str, Any], what: str) -> NoReturn:
    """The error that a measuring process told."""
    error: dict[str, str] = answer["error"]
    kind: type[EdgecError] = Missing if error["kind"] == "missing" else StageError
    raise kind(f"{what}: {error['message']}")


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"failed with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def allowed_cores() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_average() -> float | None:
    """Runnable processes over the last minute, or None where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def environment() -> dict[str, Any]:
    """The machine as a measurement depends on it; what the system does not tell is "unavailable"."""
    names = ("onnxruntime", "torch", "numpy", "onnx", "edgec")
    return {
        "cpu": cpu_name(),
        "cores": allowed_cores(),
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "temperature_c": _temperature(),
        "energy": "unavailable",
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: installed for name in names if (installed := _version(name))},
    }


def cpu_name() -> str:
    """The CPU's name as the system tells it."""
    for line in _text("/proc/cpuinfo", "").splitlines():
        if line.lower().startswith(("model name", "hardware")):
            return line.partition(":")[2].strip()
    board = _text("/proc/device-tree/model", "").strip("\0 ")
    return board or platform.processor() or platform.machine() or "unknown"


def cpu_flags() -> frozenset[str]:
    """Instruction-set extensions: `flags` on x86, `Features` on ARM; empty where the system does not tell."""
    for line in _text("/proc/cpuinfo", "").splitlines():
        if line.lower().startswith(("flags", "features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def _text(path: str, otherwise: str = "unavailable") -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return otherwise


def _temperature() -> float | str:
    try:
        return int(_text("/sys/class/thermal/thermal_zone0/temp")) / 1000
    except ValueError:
        return "unavailable"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
