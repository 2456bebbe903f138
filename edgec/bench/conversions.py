"""Artifacts in other runtimes: converted, compared with their golden outputs, evaluated; what is wrong is not measured further.

A converter that succeeds may have written something else than it was given, so success is not believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.bench.candidate import Candidate, fp32_beside
from edgec.core.errors import EdgecError, Missing, StageError
from edgec.core.events import Events
from edgec.core.predictor import Predictor
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.profile import Conversion
from edgec.core.runtimes import RUNTIMES
from edgec.core.session import Array
from edgec.devices.subprocess_session import ServedSession
from edgec.env import Env
from edgec.onnx.files import files_of
from edgec.onnx.parity import LEAST_DB_TO_GOLDEN, snr_db
from edgec.onnx.proto import load_model
from edgec.onnx.session import OnnxSession
from edgec.runtimes.artifact import predictor, predictor_of
from edgec.runtimes.convert import package
from edgec.runtimes.source import ConversionSource, Precision
from edgec.tasks.protocol import Evaluation

LARGEST_DROP = {True: 0.02, False: 0.2}  # of the metric, for shares and for decibels
CALIBRATION_IMAGES = 64  # for converters that take no scales
EDGE = 64  # of a golden input that is drawn, where sizes are open
CONVERTIBLE: Mapping[str, Precision] = {"fp32": "fp32", "fp16": "fp16", "int8": "int8"}


@dataclass(frozen=True)
class Converted:
    """A conversion, with the package's folder and the golden file that it was checked with."""

    result: Conversion
    candidate: Candidate  # what was converted
    folder: Path
    golden: Path


@dataclass(frozen=True)
class Parity:
    """Outputs against the golden ones: the lowest signal-to-noise ratio, the largest error."""

    snr_db: float
    max_abs_error: float


@dataclass(frozen=True)
class Reference:
    """An artifact in onnxruntime: its predictor, and the metric that it reaches."""

    model: Predictor
    metric: float


def conversions(
    candidates: Sequence[Candidate], runtimes: Sequence[str], out: Path, events: Events, env: Env | None = None
) -> list[Converted]:  # fmt: skip
    """Every .onnx file of `candidates` in every runtime, in `out`/<runtime>/<artifact>; with `env`, also the accuracy of each
    on its val split. What fails has the reason in its result.
    """
    pairs = [(candidate, runtime) for candidate in candidates for runtime in runtimes]
    calibrating = any(RUNTIMES.row(name).calibrates for name in runtimes) and any(
        c.precision == "int8" for c in candidates
    )
    images = env.task.images("train", CALIBRATION_IMAGES) if env is not None and calibrating else None
    references: dict[Path, Reference] = {}
    results: list[Converted] = []
    for index, (candidate, runtime) in enumerate(pairs):
        events.progress(f"{candidate.artifact} for {runtime}")(index, len(pairs))
        golden = golden_of(candidate.path, out / "golden", candidate.shapes)
        folder = out / runtime / candidate.path.stem
        result = _convert(candidate, runtime, folder, golden, images, env, references)
        if result.reason:
            events.note(f"{candidate.artifact} for {runtime}: {result.reason}", "error", "profile")
        results.append(Converted(result, candidate, folder, golden))
    return results


def _convert(
    candidate: Candidate, runtime: str, folder: Path, golden: Path, images: Array | None, env: Env | None,
    references: dict[Path, Reference],
) -> Conversion:  # fmt: skip
    """Convert one artifact and check what came out. `references` holds those made so far, by file, and grows."""
    done = Conversion(artifact=candidate.artifact, runtime=runtime, precision=candidate.precision)
    path = candidate.path
    try:
        package(runtime, _source(path, candidate.precision, golden, images), folder)
        beside = {"package.json", *RUNTIMES.row(runtime).beside}  # the weights
        size = sum(f.stat().st_size for f in folder.iterdir() if f.name not in beside)
        done = done.model_copy(update={"bytes": size})
        with ServedSession(folder, runtime) as session:
            parity = _compared(session, golden)
            done = done.model_copy(
                update={"snr_db": _finite(parity.snr_db), "max_abs_error": _finite(parity.max_abs_error)}
            )
            _check_parity(parity, candidate.precision)
            if env is not None:
                if path not in references:
                    model = predictor(path)
                    references[path] = Reference(model, env.task.evaluate(model, "val")[env.task.metric])
                reference = references[path]
                place = f"{candidate.artifact} in {runtime}"
                served = predictor_of(session, reference.model.contract, place)
                accuracy = env.task.evaluate(served, "val")
                done = done.model_copy(update={"metrics": accuracy})
                _check_accuracy(accuracy, reference.metric, env.task)
    except EdgecError as error:
        kind = "missing" if isinstance(error, Missing) else "failed"
        reason = str(error).removeprefix(f"{path.name} for {runtime}: ")  # which stands beside it
        return done.model_copy(update={"kind": kind, "reason": reason})
    return done


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def golden_of(path: Path, folder: Path, shapes: Mapping[str, Sequence[int]]) -> Path:
    """The golden file beside an artifact; one is made with onnxruntime, from numbers drawn, where there is none, or where
    `shapes` asks for other sizes than its own.
    """
    beside = path.parent / "golden" / f"{path.stem}.npz"
    if beside.is_file() and not shapes:
        return beside
    drawn_golden = folder / f"{path.stem}.npz"
    if not drawn_golden.is_file():
        session = OnnxSession(path)
        rng = np.random.default_rng(0)
        sizes = {
            n: list(shapes.get(n) or [s or (1 if i < 2 else EDGE) for i, s in enumerate(shape)])
            for n, shape in session.inputs.items()
        }
        feeds = {name: rng.random(shape, dtype=np.float32) for name, shape in sizes.items()}
        outputs = dict(zip(session.outputs, session.run(feeds), strict=True))
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(drawn_golden, allow_pickle=False, **feeds, **outputs)
    return drawn_golden


def _source(path: Path, precision: str, golden: Path, images: Array | None) -> ConversionSource:
    """What is converted. Raises StageError for fp16 without its fp32 file beside it, and for precisions without converters."""
    if precision not in CONVERTIBLE:
        raise StageError(f"{path}: its precision is {precision}; other runtimes take fp32, fp16 and int8")
    source = path
    if precision == "fp16":  # converters make their own fp16
        source = fp32_beside(path)
        if source == path or not source.is_file():
            raise StageError(f"{path}: is converted from its fp32 file; put {source.name} beside it")
    files_of(source)  # for its errors
    model = load_model(source)
    inputs = {v.name: v for v in model.graph.input}
    with np.load(golden, allow_pickle=False) as arrays:
        shapes = {name: list(arrays[name].shape) for name in inputs}
    declared = [d.dim_value for v in inputs.values() for d in v.type.tensor_type.shape.dim[2:]]
    open_sizes = any(side == 0 for side in declared)
    return ConversionSource(path, model, CONVERTIBLE[precision], shapes, open_sizes, golden, images)


def _compared(session: ServedSession, golden: Path) -> Parity:
    """Outputs for the golden input against the golden outputs. Raises StageError when they have other shapes."""
    with np.load(golden, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    outputs = session.run({name: arrays[name].astype(np.float32) for name in session.inputs})
    expected = [value for name, value in arrays.items() if name not in session.inputs]
    for index, (reached, wanted) in enumerate(zip(outputs, expected, strict=True)):
        if reached.shape != wanted.shape:
            raise StageError(
                f"output {index} has shape {list(reached.shape)} instead of {list(wanted.shape)}: the conversion is wrong"
            )
    return Parity(
        round(min(snr_db(w, r) for w, r in zip(expected, outputs, strict=True)), 2),
        max(float(np.abs(w - r).max()) for w, r in zip(expected, outputs, strict=True)),
    )


def _check_parity(parity: Parity, precision: str) -> None:
    """Raises StageError when outputs are too far from the golden ones."""
    if not parity.snr_db >= LEAST_DB_TO_GOLDEN[precision]:  # not a number is too little
        raise StageError(
            f"its outputs are {parity.snr_db:.1f} dB from onnxruntime's (largest error {parity.max_abs_error:.3g}), less than "
            f"{LEAST_DB_TO_GOLDEN[precision]:g}: the conversion is wrong"
        )


def _check_accuracy(accuracy: Accuracy, reference: float, task: Evaluation) -> None:
    """Raises StageError when the metric is far below the artifact's own in onnxruntime."""
    headline = task.metrics[0]
    reached = accuracy[headline.name]
    if not reference - reached <= LARGEST_DROP[headline.share]:
        raise StageError(
            f"{headline.title} is {reached:.{headline.digits}f} instead of {reference:.{headline.digits}f} in onnxruntime: "
            "the conversion is wrong"
        )
