"""What a measuring process answered, or why it did not, wherever it ran."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from edgec.core.errors import EdgecError, Missing, StageError

COMPILE_SECONDS = 900.0  # instead, where torch compiles the network first
SPARE_SECONDS = 120.0  # for starting Python, importing a runtime and loading a large file


def subject_of(job: Mapping[str, Any]) -> str:
    """What a job measures, for messages."""
    return f"{Path(str(job['artifact'])).name} in {job['runtime']} with {job['threads']} thread(s)"


def default_deadline(job: Mapping[str, Any]) -> float:
    """Seconds after which a measuring process counts as hung."""
    spare = COMPILE_SECONDS if job.get("mode") == "compiled" else SPARE_SECONDS
    return spare + 10 * (float(job.get("warmup_seconds", 0.0)) + float(job["max_seconds"]))


def answer_of(stdout: str, stderr: str, code: int, what: str) -> dict[str, Any]:
    """The last line of `stdout`. Raises Missing or StageError when it tells an error, or there is no answer."""
    lines = [line for line in stdout.splitlines() if line.strip()]
    try:
        answer: Any = json.loads(lines[-1]) if lines else None
    except ValueError:
        answer = None
    if isinstance(answer, dict) and "error" in answer:
        raise_error(answer, what)
    if code != 0 or not isinstance(answer, dict):
        tail = " | ".join(stderr.strip().splitlines()[-3:]) or "no message"
        raise StageError(f"{what}: the measuring process {ending(code)}: {tail}")
    return answer


def raise_error(answer: Mapping[str, Any], what: str) -> NoReturn:
    """The error that a measuring process told."""
    error: dict[str, str] = answer["error"]
    kind: type[EdgecError] = Missing if error["kind"] == "missing" else StageError
    raise kind(f"{what}: {error['message']}")


def late(what: str, limit_s: float) -> StageError:
    """The error of a process that was ended after its limit."""
    return StageError(
        f"{what}: no answer in {limit_s:.0f} s, so the measuring process was ended; "
        "is the machine overloaded, or the network too slow for it?"
    )


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"failed with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
