"""Every artifact in every runtime on one device, in rounds of fresh processes that take turns: A B A B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgec.bench import statistics
from edgec.bench.operators import dearer
from edgec.core.errors import EdgecError, Missing, StageError
from edgec.core.events import Events, Progress
from edgec.devices.device import Device, DeviceLost
from edgec.onnx.parity import LEAST_DB_TO_GOLDEN
from edgec.recipe import Profile

DENSE = "dense.fp32"
SLOWER = 0.97  # a ratio below it, or an interval wholly below 1, names an artifact as slower
TELL_OPERATORS = ("onnxruntime", "openvino", "mnn")


@dataclass(frozen=True)
class Subject:
    """One thing to measure: an ONNX file or a package in a runtime, or a network folder in torch."""

    artifact: str
    runtime: str
    precision: str
    place: Path
    processor: str = "cpu"  # of torch
    open_batch: bool = False  # other batches than that of the file go as well
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])  # for the job


class Cell(NamedTuple):
    subject: Subject
    threads: int
    batch: int = 1

    @property
    def key(self) -> tuple[str, str, int, int]:
        return self.subject.artifact, self.subject.runtime, self.threads, self.batch

    def job(self, config: Profile, what: str = "latency") -> dict[str, Any]:
        """What a measuring process reads."""
        subject = self.subject
        return {
            "what": what,
            "runtime": subject.runtime,
            "artifact": str(subject.place),
            "threads": self.threads,
            "batch": self.batch,
            "device": subject.processor,
            "warmup_seconds": config.warmup_seconds,
            "min_seconds": config.min_seconds,
            "max_seconds": max(config.max_seconds, config.min_seconds),
            "interval": config.interval,
            **subject.extra,
        }

    def told(self) -> dict[str, Any]:
        """What figures and failures are known by."""
        return {
            "artifact": self.subject.artifact,
            "runtime": self.subject.runtime,
            "threads": self.threads,
            "batch": self.batch,
        }


Answer = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """Answers of the processes, by cell and round; None where a process gave none."""

    answers: Mapping[tuple[str, str, int, int], list[Answer | None]]
    failures: list[dict[str, Any]]

    def of(self, cell: Cell) -> list[Answer | None]:
        return self.answers[cell.key]

    def given(self, cell: Cell) -> list[Answer]:
        return [answer for answer in self.of(cell) if answer is not None]


def measure_on(
    device: Device, subjects: Sequence[Subject], config: Profile, events: Events, stage: str,
    base: str | None = None, failures: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:  # fmt: skip
    """Measure and compare on one device, in `config.processes` rounds that each visit every cell once.

    Gives "device", "environment", "verdict" with "reasons", "cells", "speedups", "across", "operators", "operator_types",
    "slower", "failures" (to those given). A ratio above 1 means that the artifact is faster than what it is held
    against. Raises Missing or StageError when nothing could be measured.
    """
    about = device.environment()
    cells = cells_of(subjects, config, int(about["cores"]), device.name, events, stage)
    measured = measure_rounds(device, cells, config, events, stage)
    there = [cell for cell in cells if measured.given(cell)]
    failed = [*failures, *measured.failures]
    if not there:
        raise_first(failed)
    names = [cell.subject.artifact for cell in there]
    base = base or (DENSE if DENSE in names else names[0])
    pairs = speedups(there, measured, base)
    lost = any(f["kind"] == "lost" for f in failed)
    operators = {} if lost else operators_of(device, there, config, events, stage)
    flat = [
        {**answer, "threads": cell.threads, "device": cell.subject.processor}
        for cell in there
        for answer in measured.given(cell)
    ]
    verdict, reasons = statistics.judge(
        flat, about.get("busy_cores"), about["load_average"], int(about["cores"])
    )
    if verdict != "quiet":
        events.note(f"verdict on {device.name}: {verdict} ({'; '.join(reasons)})", "warning", stage)
    for answer in flat:
        about["versions"] = about["versions"] | answer.get("versions", {})
    pinned = any(answer.get("pinned") for answer in flat)
    in_onnxruntime = {
        artifact: found for (artifact, name), found in operators.items() if name == "onnxruntime"
    }
    return {
        "device": device.name,
        "environment": about | {"pinned": pinned},
        "verdict": verdict,
        "reasons": reasons,
        "cells": [figures_of(cell, measured.given(cell)) for cell in there],
        "speedups": pairs,
        "across": across(there, measured, base),
        "operators": {named(key): found["operators"] for key, found in operators.items()},
        "operator_types": {named(key): found["types"] for key, found in operators.items()},
        "slower": slower(pairs, in_onnxruntime),
        "failures": failed,
    }


def named(key: tuple[str, str]) -> str:
    """An artifact in onnxruntime by its name, in another runtime with that too."""
    artifact, runtime = key
    return artifact if runtime == "onnxruntime" else f"{artifact} in {runtime}"


def cells_of(
    subjects: Sequence[Subject], config: Profile, cores: int, device: str, events: Events, stage: str
) -> list[Cell]:
    """Subjects by threads and batches. Batches above 1 go with one count of threads, where the file takes them."""
    counts = tuple(dict.fromkeys(config.threads or (1, cores)))
    if max(counts) > cores:
        events.note(
            f"{max(counts)} threads on the {cores} cores of {device}: they will wait for each other",
            "warning",
            stage,
        )
    more = [batch for batch in dict.fromkeys(config.batches) if batch != 1]
    if more and not any(subject.open_batch for subject in subjects):
        events.note(
            f"no artifact takes a batch of {', '.join(map(str, more))}: export with dynamic_batch: true",
            "warning",
            stage,
        )
    cells = [
        Cell(s, threads)
        for threads in counts
        for s in subjects
        if s.processor == "cpu" or threads == counts[0]
    ]
    return cells + [Cell(s, counts[0], batch) for batch in more for s in subjects if s.open_batch]


def measure_rounds(
    device: Device, cells: Sequence[Cell], config: Profile, events: Events, stage: str
) -> Measured:
    """One fresh process a cell and round. A cell that failed once is not tried again; a device that is lost ends the rounds."""
    answers: dict[tuple[str, str, int, int], list[Answer | None]] = {cell.key: [] for cell in cells}
    failures: dict[Any, dict[str, Any]] = {}
    total = config.processes * len(cells)
    for round_index in range(config.processes):
        for index, cell in enumerate(cells):
            what = f"latency of {cell.subject.artifact}" + (
                "" if device.name == "local" else f" on {device.name}"
            )
            events.emit(Progress(what, round_index * len(cells) + index, total))
            answer = None
            if cell.key not in failures and "lost" not in failures:
                try:
                    answer = device.probe(cell.job(config))
                    _check_numbers(cell, answer, device.name)
                except EdgecError as error:
                    answer = None
                    key = "lost" if isinstance(error, DeviceLost) else cell.key
                    kind = "lost" if key == "lost" else "missing" if isinstance(error, Missing) else "failed"
                    failures[key] = {**cell.told(), "device": device.name, "kind": kind, "error": str(error)}
                    events.note(str(error), "error", stage)
            answers[cell.key].append(answer)
    for key in failures.keys() & answers.keys():  # an artifact that gives wrong numbers has no latency
        answers[key] = [None] * len(answers[key])
    events.emit(Progress("latency", total, total))
    return Measured(answers, list(failures.values()))


def _check_numbers(cell: Cell, answer: Answer, device: str) -> None:
    """Raises StageError when the outputs on the device are not those of the golden file."""
    reached, least = (
        answer.get("snr_db"),
        LEAST_DB_TO_GOLDEN.get(cell.subject.precision, min(LEAST_DB_TO_GOLDEN.values())),
    )
    if reached is not None and not reached >= least:
        raise StageError(
            f"{cell.subject.artifact} in {cell.subject.runtime} on {device}: its outputs are {reached:.1f} dB from the golden "
            f"ones, less than {least:g}: wrong numbers on this device; update the runtime there, or ship another precision"
        )


def raise_first(failures: Sequence[Mapping[str, Any]]) -> None:
    """Nothing was measured: raise what was found instead. Raises Missing or StageError."""
    if not failures:
        raise StageError("there is nothing to profile; name an artifact")
    absent = all(f["kind"] in ("missing", "lost") for f in failures)
    kind = Missing if absent else StageError
    raise kind("; ".join(dict.fromkeys(str(f["error"]) for f in failures)))


def figures_of(cell: Cell, answers: Sequence[Answer]) -> dict[str, Any]:
    """The figures of a cell from the answers of its processes. None is what the device does not tell."""
    samples = [answer["samples_ms"] for answer in answers]
    median, low, high = statistics.median_interval(samples)
    single = all(answer.get("averages") for answer in answers)  # one figure a process: no percentiles of runs
    p5, p50, p90, p99 = (None,) * 4 if single else statistics.percentiles(samples)
    return {
        **cell.told(),
        "precision": cell.subject.precision,
        "size": sizes_of(answers[0]),
        "median_ms": median,
        "ci_low_ms": low,
        "ci_high_ms": high,
        "p5_ms": p5,
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "first_ms": _median(answers, "first_ms"),
        "load_ms": _median(answers, "load_ms"),
        "min_cpu_ms": _over(min, answers, "min_cpu_ms"),
        "peak_rss_bytes": _over(max, answers, "peak_rss_bytes"),
        "wall_cpu_ratio": _median(answers, "wall_cpu_ratio"),
        "involuntary_switches": _over(sum, answers, "involuntary_switches"),
        "energy_mj": _median(answers, "energy_mj"),
        "temperature_c": _over(max, answers, "temperature_c"),
        "drift": _median(answers, "drift"),
        "snr_db": _over(min, answers, "snr_db"),
        "processes": len(answers),
        "runs": sum(int(answer.get("runs", len(answer["samples_ms"]))) for answer in answers),
        "process_medians_ms": [float(np.median(values)) for values in samples],
        "samples_ms": statistics.thinned(samples),
    }


def sizes_of(answer: Answer) -> list[list[int]]:
    """Height and width of the inputs that were run; latencies on other sizes are not comparable."""
    return [list(shape[2:]) for shape in answer.get("inputs", {}).values()]


def _told(answers: Sequence[Answer], name: str) -> list[Any]:
    return [answer[name] for answer in answers if answer.get(name) is not None]


def _median(answers: Sequence[Answer], name: str) -> float | None:
    values = _told(answers, name)
    return float(np.median(values)) if values else None


def _over(how: Any, answers: Sequence[Answer], name: str) -> Any:
    values = _told(answers, name)
    return how(values) if values else None


def speedups(cells: Sequence[Cell], measured: Measured, base: str) -> list[dict[str, Any]]:
    """Each artifact against `base`, and against fp32 of the same network, where both ran in one
    runtime on inputs of one size.
    """
    rows: list[dict[str, Any]] = []
    for cell in cells:
        same = [c for c in cells if c.key[1:] == cell.key[1:]]
        for against in _opponents(cell.subject.artifact, [c.subject.artifact for c in same], base):
            other = next(c for c in same if c.subject.artifact == against)
            ratio = _ratio(cell, other, measured)
            if ratio is not None:
                rows.append({**cell.told(), "against": against, **ratio})
    return rows


def across(cells: Sequence[Cell], measured: Measured, against: str) -> list[dict[str, Any]]:
    """Every cell, in whatever runtime, against one artifact in onnxruntime with as many threads."""
    rows: list[dict[str, Any]] = []
    for cell in cells:
        key = (against, "onnxruntime", cell.threads, cell.batch)
        base = next((c for c in cells if c.key == key), None)
        ratio = _ratio(cell, base, measured) if base is not None else None
        if ratio is not None:
            rows.append({**cell.told(), "against": against, **ratio})
    return rows


def _ratio(cell: Cell, other: Cell, measured: Measured) -> dict[str, Any] | None:
    """How many times as fast a cell is as the other, over the rounds in which both ran on inputs of one size; None without."""
    both = [
        (b["samples_ms"], a["samples_ms"])
        for a, b in zip(measured.of(cell), measured.of(other), strict=True)
        if a is not None and b is not None and sizes_of(a) == sizes_of(b)
    ]
    if not both:
        return None
    ratio, low, high = statistics.ratio_interval([b for b, _ in both], [a for _, a in both])
    return {"ratio": ratio, "ci_low": low, "ci_high": high, "rounds": len(both)}


def _opponents(name: str, names: Sequence[str], base: str) -> list[str]:
    """What an artifact is held against, among those measured with the same runtime and threads."""
    own = f"{name.rpartition('.')[0]}.fp32"
    return [other for other in dict.fromkeys((base, own)) if other in names and other != name]


def operators_of(
    device: Device, cells: Sequence[Cell], config: Profile, events: Events, stage: str
) -> dict[tuple[str, str], dict[str, Any]]:
    """Time by operator with one thread, each artifact in one more process; one that fails is left out."""
    subjects = {c.key[:2]: c.subject for c in cells if c.subject.runtime in TELL_OPERATORS}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for index, (key, subject) in enumerate(subjects.items()):
        events.emit(Progress(f"operators of {subject.artifact}", index, len(subjects)))
        try:
            answer = device.probe(Cell(subject, 1).job(config, "operators"))
        except EdgecError as error:
            events.note(f"time by operator: {error}", "warning", stage)
            continue
        if answer["operators"]:
            found[key] = answer
    return found


def slower(
    pairs: Sequence[Mapping[str, Any]], operators: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Artifacts that take more time than what they are held against, with the operators that make it so.

    Operators are those of onnxruntime with one thread; for other runtimes the list is empty.
    """
    rows: list[dict[str, Any]] = []
    for pair in pairs:
        if pair.get("batch", 1) != 1 or not (pair["ratio"] < SLOWER or pair["ci_high"] < 1):
            continue
        mine, other = operators.get(pair["artifact"]), operators.get(pair["against"])
        known = pair["runtime"] == "onnxruntime" and mine is not None and other is not None
        rows.append(
            {name: pair[name] for name in ("artifact", "against", "runtime", "threads", "ratio")}
            | {"operators": dearer(mine, other) if known and mine is not None and other is not None else []}
        )
    return rows
