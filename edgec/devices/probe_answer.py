"""What a measuring process answered, or why it did not, wherever it ran."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from edgec.core.errors import EdgecError, Missing, StageError
from edgec.core.frozen import json_object
from edgec.core.results.profile import OperatorTime
from edgec.devices.probe_job import ProbeJob

COMPILE_SECONDS = 900.0  # instead, where torch compiles the network first
SPARE_SECONDS = 120.0  # for starting Python, importing a runtime and loading a large file


class Answer(BaseModel):
    """What bench reads of an answer; other keys are left alone. A device may report infinity and NaN."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class LatencyAnswer(Answer):
    """The figures of one measuring process, see `edgec.probe.measure`. None is what the device does not report."""

    samples_ms: tuple[float, ...] = Field(min_length=1)
    averages: bool = False  # samples are averages over many runs
    runs: int | None = None  # where they are not one for each sample
    inputs: dict[str, tuple[int, ...]] = Field(default_factory=dict[str, tuple[int, ...]])
    versions: dict[str, str] = Field(default_factory=dict[str, str])
    pinned: tuple[int, ...] = ()
    first_ms: float | None = None
    load_ms: float | None = None
    min_cpu_ms: float | None = None
    wall_cpu_ratio: float | None = None
    involuntary_switches: int | None = None
    measured_seconds: float = 0.0
    drift: float | None = None
    peak_rss_bytes: int | None = None
    energy_mj: float | None = None
    temperature_c: float | None = None
    snr_db: float | None = None

    @property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """Height and width of the inputs that were run; latencies on other sizes are not comparable."""
        return tuple(shape[2:] for shape in self.inputs.values())


class OperatorsAnswer(Answer):
    """Time by operator, see `edgec.probe.operators`."""

    operators: tuple[OperatorTime, ...] = ()
    types: dict[str, float] = Field(default_factory=dict[str, float])
    total_ms: float = 0.0


A = TypeVar("A", bound=BaseModel)


def read_answer(kind: type[A], answer: Mapping[str, JsonValue], what: str) -> A:
    """An answer, checked. Raises StageError that names what is wrong with it."""
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise StageError(
            f"{what}: the answer of the measuring process has no usable {place!r} ({first['msg']}); "
            "is another edgec's probe on the device?"
        ) from None


def subject_of(job: ProbeJob) -> str:
    """What a job measures, for messages."""
    return f"{Path(str(job['artifact'])).name} in {job['runtime']} with {job['threads']} thread(s)"


def default_deadline(job: ProbeJob) -> float:
    """Seconds after which a measuring process counts as hung."""
    spare = COMPILE_SECONDS if job.get("mode") == "compiled" else SPARE_SECONDS
    return spare + 10 * (job.get("warmup_seconds", 0.0) + job.get("max_seconds", 0.0))


def answer_of(stdout: str, stderr: str, code: int, what: str) -> dict[str, JsonValue]:
    """The last line of `stdout`. Raises Missing or StageError when it is an error, or the answer is missing."""
    lines = [line for line in stdout.splitlines() if line.strip()]
    try:
        answer = json_object(json.loads(lines[-1])) if lines else None
    except ValueError:
        answer = None
    if answer is not None and "error" in answer:
        error = json_object(answer["error"]) or {}
        raise_error(str(error.get("kind")), str(error.get("message")), what)
    if code != 0 or answer is None:
        tail = " | ".join(stderr.strip().splitlines()[-3:]) or "no message"
        raise StageError(f"{what}: the measuring process {ending(code)}: {tail}")
    return answer


def raise_error(kind: str, message: str, what: str) -> NoReturn:
    """The error that a measuring process answered."""
    error: type[EdgecError] = Missing if kind == "missing" else StageError
    raise error(f"{what}: {message}")


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
