"""What the profile stage measured: latencies and their ratios by device, conversions to other runtimes, time by operator.

"This artifact, in this runtime, with N threads and batch B" is asked of `DeviceFigures.latency_of` and `speedup_of` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from edgec.core.frozen import Frozen, json_object
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.artifact_id import DENSE, AnyArtifact, ArtifactField, artifact_named
from edgec.core.results.fusion import Fusion
from edgec.core.results.stage import StageResult

Trust = Literal["quiet", "busy: ratios only", "unusable"]  # how far times of a machine can be trusted
FailureKind = Literal["missing", "failed", "lost"]
ONNXRUNTIME = "onnxruntime"

_MaybeArtifact = Annotated[
    AnyArtifact | None,
    BeforeValidator(lambda v: (artifact_named(v) if v else None) if isinstance(v, str) else v),
    PlainSerializer(lambda a: "" if a is None else a.name, return_type=str),
]


class Case(Frozen):
    """What is timed: an artifact in a runtime, with so many threads, on a batch of so many images.

    The size of an image belongs to the figures (`Latency.size`); the device is that of the `DeviceFigures` they stand in.
    """

    artifact: ArtifactField
    runtime: str  # as reports name it: "onnxruntime", "torch-cuda compiled bf16"
    threads: int
    batch: int = 1

    def __hash__(self) -> int:
        return hash((self.artifact, self.runtime, self.threads, self.batch))

    @property
    def case(self) -> Case:
        return Case(artifact=self.artifact, runtime=self.runtime, threads=self.threads, batch=self.batch)


class Latency(Case):
    """The figures of a case over all its processes. None is what the device does not report.

    `median_ms` is the median of the medians of the processes, with its 95 % interval; p5 to p99 are over all single runs.
    """

    precision: str
    size: tuple[tuple[int, ...], ...] = ()  # (height, width) of each input
    median_ms: float
    ci_low_ms: float
    ci_high_ms: float
    p5_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    first_ms: float | None = None
    load_ms: float | None = None
    min_cpu_ms: float | None = None
    peak_rss_bytes: int | None = None
    wall_cpu_ratio: float | None = None
    involuntary_switches: int | None = None
    energy_mj: float | None = None
    temperature_c: float | None = None
    drift: float | None = None
    snr_db: float | None = None  # of the outputs there against the golden ones
    processes: int = 1
    runs: int
    process_medians_ms: tuple[float, ...] = ()
    samples_ms: tuple[float, ...] = ()  # at most 200 of the single runs, in the order of measuring


class Speedup(Case):
    """How many times as fast a case is as `against`, above 1 is faster, with the 95 % interval over paired rounds."""

    against: ArtifactField
    ratio: float
    ci_low: float
    ci_high: float
    rounds: int = 1


class Conversion(Frozen):
    """An artifact in another runtime (or a precision of torch): checked against onnxruntime, then evaluated.

    `reason` says why it was refused, with its `kind`; both are empty where it passed.
    """

    artifact: ArtifactField
    runtime: str
    precision: str
    bytes: int = 0
    snr_db: float | None = None
    max_abs_error: float | None = None
    metrics: Accuracy = Accuracy()
    kind: Literal["", "missing", "failed"] = ""
    reason: str = ""

    @property
    def passed(self) -> bool:
        return not self.reason

    @model_validator(mode="before")
    @classmethod
    def _without_passed(cls, given: Any) -> Any:
        if (stored := json_object(given)) is None:
            return given
        stored.pop("passed", None)
        return stored

    @model_serializer(mode="wrap")
    def _with_passed(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {**handler(self), "passed": self.passed}


class Failure(Frozen):
    """What could not be measured, and why. Without an artifact it is the whole device."""

    artifact: _MaybeArtifact = None
    runtime: str = ""
    threads: int = 0  # 0: all
    batch: int = 1
    device: str = ""  # "": refused before any device was asked
    kind: FailureKind
    error: str


class OperatorTime(Frozen):
    """The median time of one operator in a run with one thread. `layer`: the module that it computes, where that is known."""

    name: str
    type: str
    ms: float
    share: float  # of the whole run
    layer: str = ""


class OperatorTimes(Frozen):
    """Where the time of an artifact in a runtime goes."""

    artifact: ArtifactField
    runtime: str
    operators: tuple[OperatorTime, ...]  # dearest first
    types: dict[str, float]  # ms by type of operator, dearest first

    @property
    def name(self) -> str:
        """What reports call it: the artifact, with the runtime where that is not onnxruntime."""
        return _operators_name(self.artifact, self.runtime)

    @property
    def total_ms(self) -> float:
        return sum(self.types.values())


class ExtraTime(Frozen):
    """An operator (`name` "": all of a type) on which one artifact spends more than the other."""

    name: str
    type: str
    ms: float
    against_ms: float
    extra_ms: float

    @property
    def title(self) -> str:
        return self.name or self.type


class Slower(Frozen):
    """An artifact that takes more time than what it is compared with, and the operators that make it so."""

    artifact: ArtifactField
    against: ArtifactField
    runtime: str
    threads: int
    ratio: float
    operators: tuple[ExtraTime, ...] = ()

    @property
    def flag(self) -> str:
        """In a few words."""
        text = f"slows {self.artifact} to {self.ratio:.2f} x {self.against} with {self.threads} thread(s)"
        names = ", ".join(o.title for o in self.operators[:3])
        return f"{text}: {names}" if names else text


class DeviceEnvironment(Frozen):
    """The device as a measurement depends on it. "unavailable" and None: the system does not report it."""

    cpu: str
    cores: int
    governor: str = "unavailable"
    temperature_c: float | str = "unavailable"
    energy: str = "unavailable"
    busy_cores: float | None = None  # at work before the measurement
    load_average: float | None = None
    os: str = ""
    python: str = ""
    versions: dict[str, str] = Field(default_factory=dict[str, str])
    pinned: bool = False  # measuring processes were kept on CPUs of their own


class DeviceFigures(Frozen):
    """Everything that was measured on one device."""

    device: str
    environment: DeviceEnvironment
    verdict: Trust
    reasons: tuple[str, ...] = ()
    cells: tuple[Latency, ...]
    speedups: tuple[Speedup, ...] = ()  # in one runtime, against dense and against fp32 of the same network
    across: tuple[Speedup, ...] = ()  # every case against one artifact in onnxruntime
    operators: tuple[OperatorTimes, ...] = ()
    slower: tuple[Slower, ...] = ()
    failures: tuple[Failure, ...] = ()

    def latency_of(
        self, artifact: AnyArtifact, runtime: str = ONNXRUNTIME, threads: int = 1, batch: int = 1
    ) -> Latency | None:
        """The figures of a case; None where it was not measured."""
        return _row(self.cells, artifact, runtime, threads, batch)

    def speedup_of(
        self,
        artifact: AnyArtifact,
        against: AnyArtifact = DENSE,
        runtime: str = ONNXRUNTIME,
        threads: int = 1,
        batch: int = 1,
    ) -> Speedup | None:
        """How many times as fast a case is as `against` in the same runtime; None where not both were measured."""
        rows = [s for s in self.speedups if s.against == against]
        return _row(rows, artifact, runtime, threads, batch)

    def across_of(
        self, artifact: AnyArtifact, runtime: str, threads: int = 1, batch: int = 1
    ) -> Speedup | None:
        """How many times as fast a case is as the base artifact in onnxruntime with as many threads."""
        return _row(self.across, artifact, runtime, threads, batch)

    def operators_of(self, artifact: AnyArtifact, runtime: str = ONNXRUNTIME) -> OperatorTimes | None:
        return next((o for o in self.operators if (o.artifact, o.runtime) == (artifact, runtime)), None)

    @property
    def thread_counts(self) -> list[int]:
        return sorted({cell.threads for cell in self.cells})

    @model_validator(mode="before")
    @classmethod
    def _read_operators(cls, given: Any) -> Any:
        """JSON has two mappings, "operators" and "operator_types", by `OperatorTimes.name`."""
        stored = json_object(given)
        if stored is None or (rows := json_object(stored.get("operators"))) is None:
            return given
        types = json_object(stored.pop("operator_types", None)) or {}
        cells = [(artifact_named(str(cell["artifact"])), str(cell["runtime"])) for cell in stored["cells"]]
        pairs = {_operators_name(artifact, runtime): (artifact, runtime) for artifact, runtime in cells}
        stored["operators"] = [
            {"artifact": artifact, "runtime": runtime, "operators": listed, "types": types.get(name, {})}
            for name, listed in rows.items()
            for artifact, runtime in (pairs.get(name, (artifact_named(name), ONNXRUNTIME)),)
        ]
        return stored

    @model_serializer(mode="wrap")
    def _write_operators(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        stored: dict[str, Any] = handler(self)
        listed = list(zip(self.operators, stored.pop("operators"), strict=True))
        after = {key: stored.pop(key) for key in ("slower", "failures")}
        return {
            **stored,
            "operators": {each.name: row["operators"] for each, row in listed},
            "operator_types": {each.name: row["types"] for each, row in listed},
            **after,
        }


class ProfileResult(StageResult):
    """The figures of each device, conversions to other runtimes, and what onnxruntime made of int8 files.

    In JSON the first device's figures stand beside the other keys, and those of the devices after it are "others".
    """

    kind: ClassVar[str] = "profile"
    devices: tuple[DeviceFigures, ...] = Field(min_length=1)
    conversions: tuple[Conversion, ...] = ()
    fusion: dict[ArtifactField, Fusion] = Field(default_factory=dict[ArtifactField, Fusion])

    @property
    def first(self) -> DeviceFigures:
        """The device that gates are about."""
        return self.devices[0]

    @property
    def others(self) -> tuple[DeviceFigures, ...]:
        return self.devices[1:]

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Of all devices."""
        return tuple(failure for figures in self.devices for failure in figures.failures)

    def slowed(self, artifact: AnyArtifact, against: AnyArtifact) -> list[str]:
        """Flags of a stage that made `artifact`: where it is slower than `against` in onnxruntime on the first device."""
        wanted = (artifact, against, ONNXRUNTIME)
        return [s.flag for s in self.first.slower if (s.artifact, s.against, s.runtime) == wanted]

    @model_validator(mode="before")
    @classmethod
    def _read_devices(cls, given: Any) -> Any:
        stored = json_object(given)
        if stored is None or "cells" not in stored:
            return given
        own = {key: stored.pop(key) for key in set(cls.model_fields) - {"devices"} if key in stored}
        others = stored.pop("others", ())
        return {**own, "devices": [stored, *others]}

    @model_serializer(mode="wrap")
    def _write_devices(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        stored: dict[str, Any] = handler(self)
        first, *others = stored.pop("devices")
        own = {key: stored.pop(key) for key in ("conversions", "fusion")}
        if self.final is None:
            stored.pop("final")
        return {**stored, **first, **own, "others": others}


def _operators_name(artifact: AnyArtifact, runtime: str) -> str:
    return artifact.name if runtime == ONNXRUNTIME else f"{artifact.name} in {runtime}"


C = TypeVar("C", bound=Case)


def _row(rows: Sequence[C], artifact: AnyArtifact, runtime: str, threads: int, batch: int) -> C | None:
    wanted = (artifact, runtime, threads, batch)
    return next((r for r in rows if (r.artifact, r.runtime, r.threads, r.batch) == wanted), None)
