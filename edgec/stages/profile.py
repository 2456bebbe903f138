"""The profile stage: latency of every artifact in its runtime, in fresh processes that take turns."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgec.devices import local, statistics
from edgec.devices.operators import dearer
from edgec.env import Env
from edgec.errors import EdgecError, Missing, StageError
from edgec.events import Events, Progress
from edgec.network import Network
from edgec.recipe import CONVERTED, Profile
from edgec.stages.conversions import Conversion, conversions

DENSE = "dense.fp32"
INTEGER_OPERATORS = ("QuantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger")
SLOWER = 0.97  # a ratio below it, or an interval wholly below 1, names an artifact as slower


@dataclass(frozen=True)
class Subject:
    """One thing to measure: an ONNX file in a runtime, or a network folder in torch."""

    artifact: str
    runtime: str
    precision: str
    place: Path
    device: str = "cpu"
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])  # for the job

    def job(self, config: Profile, threads: int, what: str = "latency") -> dict[str, Any]:
        return {
            "what": what,
            "runtime": self.runtime,
            "artifact": str(self.place),
            "threads": threads,
            "device": self.device,
            "warmup_seconds": config.warmup_seconds,
            "min_seconds": config.min_seconds,
            "max_seconds": max(config.max_seconds, config.min_seconds),
            "interval": config.interval,
            **self.extra,
        }


Cell = tuple[Subject, int]  # subject and thread count


@dataclass(frozen=True)
class Measured:
    """Answers of the processes, by cell and round; None where a process gave none."""

    answers: Mapping[tuple[str, str, int], list[dict[str, Any] | None]]
    failures: list[dict[str, Any]]

    def of(self, cell: Cell) -> list[dict[str, Any] | None]:
        return self.answers[key_of(cell)]


def key_of(cell: Cell) -> tuple[str, str, int]:
    return cell[0].artifact, cell[0].runtime, cell[1]


def profile(config: Profile, network: Network, env: Env) -> tuple[Network, dict[str, Any]]:
    """Measure the artifacts of the export before this stage, and the networks in torch; nothing is changed.

    Metrics: see `profile_subjects`. Raises Missing or StageError when nothing at all could be measured.
    """
    subjects: list[Subject] = []
    made: list[Conversion] = []
    files = [name for name in config.runtimes if name != "torch"]
    if files:
        paths = sorted(env.inputs.glob("*.onnx")) if env.inputs is not None else []
        if not paths:
            raise StageError(
                f"stages.{env.stage}: runtimes {', '.join(files)} need artifacts, and nothing was exported; "
                "put an export stage before it, or set runtimes: [torch]"
            )
        subjects, made = file_subjects(paths, files, env.out, env.events, env=env)
    if "torch" in config.runtimes:
        subjects += torch_subjects(network, env)
    names = [subject.artifact for subject in subjects]
    base = next((name for name in (DENSE, "model.fp32") if name in names), None)
    return network, profile_subjects(subjects, config, env.events, env.stage, made, base)


def profile_artifacts(
    paths: Sequence[Path],
    config: Profile,
    events: Events,
    shapes: Mapping[str, Sequence[int]] | None = None,
    against: Path | None = None,
) -> dict[str, Any]:
    """The figures of any ONNX files, also ones that edgec did not make, in all runtimes but torch.

    Sizes that a file leaves open are 1, unless `shapes` gives the input's, by name. `against` is one of `paths`, which the
    others are held against.
    """
    runtimes = [name for name in config.runtimes if name != "torch"]
    if not runtimes:
        raise StageError("an artifact cannot be profiled in torch; take onnxruntime")
    extra = {"shapes": {name: list(shape) for name, shape in (shapes or {}).items()}}
    with tempfile.TemporaryDirectory(prefix="edgec-profile-") as folder:
        subjects, made = file_subjects(paths, runtimes, Path(folder), events, extra)
        base = next((s.artifact for s in subjects if against and s.place == against.absolute()), None)
        return profile_subjects(subjects, config, events, "profile", made, base)


def file_subjects(
    paths: Sequence[Path], runtimes: Sequence[str], out: Path, events: Events,
    extra: Mapping[str, Any] | None = None, env: Env | None = None,
) -> tuple[list[Subject], list[Conversion]]:  # fmt: skip
    """The subjects of ONNX files in all runtimes; for those with files of their own, converted and checked in `out`."""
    own = [name for name in runtimes if name in CONVERTED]
    others = [name for name in runtimes if name not in CONVERTED]
    plain = subjects_of(paths, others or ["onnxruntime"], extra)
    if not own:
        return plain, []
    there = {s.artifact: s for s in plain if s.place.is_file()}
    places = {name: s.place for name, s in there.items()}
    precisions = {name: s.precision for name, s in there.items()}
    made = conversions(places, precisions, own, out, events, env)
    subjects = [
        Subject(m.artifact, m.runtime, m.precision, m.folder, extra={"golden": str(m.golden)})
        for m in made
        if not m.reason
    ]
    return (plain if others else []) + subjects, made


def subjects_of(
    paths: Sequence[Path], runtimes: Sequence[str], extra: Mapping[str, Any] | None = None
) -> list[Subject]:
    """The subjects of ONNX files: dense first, each path once, equal names told apart by folder."""
    unique = list(dict.fromkeys(path.absolute() for path in paths))
    unique.sort(key=lambda path: path.stem != DENSE)
    stems = [path.stem for path in unique]
    names = [path.stem if stems.count(path.stem) == 1 else str(path.with_suffix("")) for path in unique]
    subjects: list[Subject] = []
    for path, name in zip(unique, names, strict=True):
        precision = precision_of(path)
        golden = path.parent / "golden" / f"{path.stem}.npz"
        job = {**(extra or {}), **({"golden": str(golden)} if golden.is_file() else {})}
        subjects += [Subject(name, runtime, precision, path, extra=job) for runtime in runtimes]
    return subjects


def precision_of(path: Path) -> str:
    """int8, fp16 or fp32, from the graph; "unknown" when it cannot be read, which the probe explains."""
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception:  # protobuf's DecodeError has no public home
        return "unknown"
    if any(node.op_type in INTEGER_OPERATORS for node in graph.node):
        return "int8"
    size: dict[int, int] = {}
    for tensor in graph.initializer:
        size[tensor.data_type] = size.get(tensor.data_type, 0) + int(np.prod(tensor.dims))
    half = size.get(onnx.TensorProto.FLOAT16, 0)
    return "fp16" if half > size.get(onnx.TensorProto.FLOAT, 0) else "fp32"


def torch_subjects(network: Network, env: Env) -> list[Subject]:
    """The network and the dense one in eager torch on the CPU and, where the run uses it, on CUDA."""
    pairs = [("model.fp32", network)]
    if env.dense.digest != network.digest:
        pairs.insert(0, (DENSE, env.dense))
    extra = {"shape": list(env.task.example().shape), "allow_code": env.allow_code}
    subjects: list[Subject] = []
    for name, source in pairs:
        folder = env.scratch / "torch" / name
        source.save(folder)
        subjects.append(Subject(name, "torch", "fp32", folder, extra=extra))
        if env.device == "cuda":
            subjects.append(Subject(name, "torch-cuda", "fp32", folder, "cuda", extra))
    return subjects


def profile_subjects(
    subjects: Sequence[Subject], config: Profile, events: Events, stage: str, made: Sequence[Conversion] = (),
    base: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure and compare, in `config.processes` rounds that each visit every cell once.

    Metrics: "environment", "verdict" with "reasons", "cells", "speedups", "across", "operators", "slower", "conversions",
    "failures". A ratio above 1 means that the artifact is faster than what it is held against.
    """
    cores = local.allowed_cores()
    counts = tuple(dict.fromkeys(config.threads or (1, cores)))
    if max(counts) > cores:
        events.note(
            f"{max(counts)} threads on {cores} cores: they will wait for each other", "warning", stage
        )
    load_before = local.load_average()
    cells = [(s, t) for t in counts for s in subjects if s.device == "cpu" or t == counts[0]]
    measured = measure_rounds(cells, config, events, stage)
    there = [cell for cell in cells if any(measured.of(cell))]
    refused = [
        {"artifact": m.artifact, "runtime": m.runtime, "threads": 0, "kind": m.kind, "error": m.reason}
        for m in made
        if m.reason
    ]
    failures = refused + measured.failures
    if not there:
        _raise_first(failures)
    names = [subject.artifact for subject, _ in there]
    base = base or (DENSE if DENSE in names else names[0])
    pairs = speedups(there, measured, base)
    in_onnxruntime = {s.artifact: s for s, _ in there if s.runtime == "onnxruntime"}
    operators = operators_of(list(in_onnxruntime.values()), config, events, stage)
    flat = [
        answer | {"threads": cell[1], "device": cell[0].device}
        for cell in there
        for answer in measured.of(cell)
        if answer is not None
    ]
    verdict, reasons = statistics.judge(flat, load_before, cores)
    if verdict != "quiet":
        events.note(f"verdict on the machine: {verdict} ({'; '.join(reasons)})", "warning", stage)
    about = local.environment()
    for answer in flat:
        about["versions"] = about["versions"] | answer.get("versions", {})
    return {
        "environment": about | {"load_average": load_before, "pinned": True},
        "verdict": verdict,
        "reasons": reasons,
        "cells": [figures_of(cell, [a for a in measured.of(cell) if a is not None]) for cell in there],
        "speedups": pairs,
        "across": across(there, measured, base),
        "operators": {name: found["operators"] for name, found in operators.items()},
        "operator_types": {name: found["types"] for name, found in operators.items()},
        "slower": slower(pairs, operators),
        "conversions": [m.to_json() for m in made],
        "failures": failures,
    }


def measure_rounds(cells: Sequence[Cell], config: Profile, events: Events, stage: str) -> Measured:
    """One fresh process a cell and round, A B A B. A cell that failed once is not tried again."""
    answers: dict[tuple[str, str, int], list[dict[str, Any] | None]] = {key_of(cell): [] for cell in cells}
    failures: dict[tuple[str, str, int], dict[str, Any]] = {}
    total = config.processes * len(cells)
    for round_index in range(config.processes):
        for index, cell in enumerate(cells):
            subject, threads = cell
            key = key_of(cell)
            events.emit(Progress(f"latency of {subject.artifact}", round_index * len(cells) + index, total))
            answer = None
            if key not in failures:
                ask = local.torch_worker if subject.runtime.startswith("torch") else local.probe
                try:
                    answer = ask(subject.job(config, threads))
                except EdgecError as error:
                    failures[key] = {
                        "artifact": subject.artifact,
                        "runtime": subject.runtime,
                        "threads": threads,
                        "kind": "missing" if isinstance(error, Missing) else "failed",
                        "error": str(error),
                    }
                    events.note(str(error), "error", stage)
            answers[key].append(answer)
    events.emit(Progress("latency", total, total))
    return Measured(answers, list(failures.values()))


def _raise_first(failures: Sequence[Mapping[str, Any]]) -> None:
    if not failures:
        raise StageError("there is nothing to profile; name an artifact")
    kind = Missing if all(f["kind"] == "missing" for f in failures) else StageError
    raise kind("; ".join(dict.fromkeys(str(f["error"]) for f in failures)))


def figures_of(cell: Cell, answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of a cell from the answers of its processes."""
    subject, threads = cell
    samples = [answer["samples_ms"] for answer in answers]
    median, low, high = statistics.median_interval(samples)
    p90, p99 = statistics.percentiles(samples)
    return {
        "artifact": subject.artifact,
        "runtime": subject.runtime,
        "precision": subject.precision,
        "threads": threads,
        "size": sizes_of(answers[0]),
        "median_ms": median,
        "ci_low_ms": low,
        "ci_high_ms": high,
        "p90_ms": p90,
        "p99_ms": p99,
        "first_ms": _median(answers, "first_ms"),
        "load_ms": _median(answers, "load_ms"),
        "min_cpu_ms": min(float(answer["min_cpu_ms"]) for answer in answers),
        "peak_rss_bytes": max(int(answer["peak_rss_bytes"]) for answer in answers),
        "wall_cpu_ratio": _median(answers, "wall_cpu_ratio"),
        "involuntary_switches": sum(int(answer["involuntary_switches"]) for answer in answers),
        "drift": _median(answers, "drift"),
        "processes": len(answers),
        "runs": sum(len(values) for values in samples),
        "process_medians_ms": [float(np.median(values)) for values in samples],
        "samples_ms": statistics.thinned(samples),
    }


def sizes_of(answer: Mapping[str, Any]) -> list[list[int]]:
    """Height and width of the inputs that were run; latencies on other sizes are not comparable."""
    return [list(shape[2:]) for shape in answer.get("inputs", {}).values()]


def _median(answers: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(np.median([answer[name] for answer in answers]))


def speedups(cells: Sequence[Cell], measured: Measured, base: str) -> list[dict[str, Any]]:
    """Each artifact against `base`, and against fp32 of the same network, where both ran
    on inputs of one size.
    """
    rows: list[dict[str, Any]] = []
    for cell in cells:
        subject, threads = cell
        same = [c for c in cells if c[0].runtime == subject.runtime and c[1] == threads]
        for against in _opponents(subject.artifact, [c[0].artifact for c in same], base):
            other = next(c for c in same if c[0].artifact == against)
            ratio = _ratio(cell, other, measured)
            if ratio is not None:
                told = {"artifact": subject.artifact, "against": against, "runtime": subject.runtime}
                rows.append({**told, "threads": threads, **ratio})
    return rows


def across(cells: Sequence[Cell], measured: Measured, against: str) -> list[dict[str, Any]]:
    """Every cell, in whatever runtime, against one artifact in onnxruntime with as many threads."""
    rows: list[dict[str, Any]] = []
    for cell in cells:
        subject, threads = cell
        plain = [c for c in cells if c[0].runtime == "onnxruntime" and c[1] == threads]
        base = next((c for c in plain if c[0].artifact == against), None)
        if base is None:
            continue
        ratio = _ratio(cell, base, measured)
        if ratio is not None:
            told = {"artifact": subject.artifact, "against": against, "runtime": subject.runtime}
            rows.append({**told, "threads": threads, **ratio})
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
    subjects: Sequence[Subject], config: Profile, events: Events, stage: str
) -> dict[str, dict[str, Any]]:
    """Time by operator with one thread, each artifact in one more process; one that fails is left out."""
    found: dict[str, dict[str, Any]] = {}
    for index, subject in enumerate(subjects):
        events.emit(Progress(f"operators of {subject.artifact}", index, len(subjects)))
        try:
            found[subject.artifact] = local.probe(subject.job(config, 1, "operators"))
        except EdgecError as error:
            events.note(f"time by operator: {error}", "warning", stage)
    return found


def slower(
    pairs: Sequence[Mapping[str, Any]], operators: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Artifacts that take more time than what they are held against, with the operators that make it so.

    Operators are those of onnxruntime with one thread; for other runtimes the list is empty.
    """
    rows: list[dict[str, Any]] = []
    for pair in pairs:
        if not (pair["ratio"] < SLOWER or pair["ci_high"] < 1):
            continue
        mine, other = operators.get(pair["artifact"]), operators.get(pair["against"])
        known = pair["runtime"] == "onnxruntime" and mine is not None and other is not None
        rows.append(
            {name: pair[name] for name in ("artifact", "against", "runtime", "threads", "ratio")}
            | {"operators": dearer(mine, other) if known and mine is not None and other is not None else []}
        )
    return rows
