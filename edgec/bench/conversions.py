"""Artifacts in other runtimes: converted, compared with their golden outputs, evaluated; what is wrong is not measured further.

A converter that succeeds may have written something else than it was given, so success is not believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgec.core.contract.base import Contract
from edgec.core.errors import EdgecError, Missing, StageError
from edgec.core.events import Events, Progress
from edgec.devices.subprocess_session import ServedSession
from edgec.env import Env
from edgec.onnx.files import files_of
from edgec.onnx.parity import LEAST_DB, snr_db
from edgec.onnx.session import OnnxSession
from edgec.runtimes.artifact import predictor, predictor_of
from edgec.runtimes.convert import Precision, Source, package

LARGEST_DROP = {True: 0.02, False: 0.2}  # of the metric, for shares and for decibels
CALIBRATION_IMAGES = 64  # for converters that take no scales
ASIDE = (
    "package.json",
    "layout.json",
    "any.tflite",
    "any.pte",
)  # files of a package that are not the artifact's weights
EDGE = 64  # of a golden input that is drawn, where sizes are open


@dataclass
class Conversion:
    """One artifact in one runtime; `reason` says why it was refused."""

    artifact: str
    runtime: str
    precision: str
    folder: Path
    golden: Path
    bytes: int = 0
    snr_db: float | None = None
    max_abs_error: float | None = None
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    kind: str = ""  # missing or failed
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        told = {k: v for k, v in vars(self).items() if k not in ("folder", "golden")}
        return told | {"passed": not self.reason}


def conversions(
    paths: Mapping[str, Path], precisions: Mapping[str, str], runtimes: Sequence[str], out: Path, events: Events,
    env: Env | None = None, shapes: Mapping[str, Sequence[int]] | None = None,
) -> list[Conversion]:  # fmt: skip
    """Every artifact in every runtime, in `out`/<runtime>/<artifact>. With `env`, the accuracy of each on its val split too.

    `paths` and `precisions` are by artifact name. Codebooks are a way to store int8 in ONNX, and are left out.
    """
    pairs = [(name, runtime) for name in paths for runtime in runtimes if not name.endswith("codebook")]
    reference: dict[str, tuple[Contract, float]] = {}  # contract and metric in onnxruntime, by artifact
    found: list[Conversion] = []
    calibrating = env is not None and "litert" in runtimes and "int8" in precisions.values()
    images = env.task.images("train", CALIBRATION_IMAGES) if env is not None and calibrating else None
    for index, (name, runtime) in enumerate(pairs):
        events.emit(Progress(f"{name} for {runtime}", index, len(pairs)))
        path = paths[name]
        golden = golden_of(path, out / "golden", shapes or {})
        made = Conversion(name, runtime, precisions[name], out / runtime / path.stem, golden)
        found.append(made)
        try:
            package(runtime, _source(path, made.precision, golden, images), made.folder)
            made.bytes = sum(f.stat().st_size for f in made.folder.iterdir() if f.name not in ASIDE)
            with ServedSession(made.folder, runtime) as session:
                _compare(made, session)
                if env is not None:
                    if name not in reference:
                        model = predictor(path)
                        metric = env.task.evaluate(model, "val")[env.task.metric]
                        reference[name] = model.contract, metric
                    _evaluate(made, session, env, *reference[name])
        except EdgecError as error:
            made.kind = "missing" if isinstance(error, Missing) else "failed"
            made.reason = str(error).removeprefix(f"{path.name} for {runtime}: ")  # which is told beside it
            events.note(f"{name} for {runtime}: {made.reason}", "error", "profile")
    return found


def golden_of(path: Path, folder: Path, shapes: Mapping[str, Sequence[int]]) -> Path:
    """The golden file beside an artifact; one is made with onnxruntime, from numbers drawn, where there is none, or where
    `shapes` asks for other sizes than its own.
    """
    beside = path.parent / "golden" / f"{path.stem}.npz"
    if beside.is_file() and not shapes:
        return beside
    made = folder / f"{path.stem}.npz"
    if not made.is_file():
        session = OnnxSession(path)
        rng = np.random.default_rng(0)
        sizes = {
            n: list(shapes.get(n) or [s or (1 if i < 2 else EDGE) for i, s in enumerate(shape)])
            for n, shape in session.inputs.items()
        }
        feeds = {name: rng.random(shape, dtype=np.float32) for name, shape in sizes.items()}
        outputs = dict(zip(session.outputs, session.run(feeds), strict=True))
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(made, allow_pickle=False, **feeds, **outputs)
    return made


def _source(path: Path, precision: str, golden: Path, images: np.ndarray | None) -> Source:
    """What is converted. Raises StageError for fp16 without its fp32 file beside it, and for what is no network of ours."""
    if precision not in ("fp32", "fp16", "int8"):
        raise StageError(f"{path}: its precision is {precision}; other runtimes take fp32, fp16 and int8")
    given = path
    if precision == "fp16":  # converters make their own halves
        given = path.with_name(path.name.replace("fp16", "fp32"))
        if "fp16" not in path.name or not given.is_file():
            raise StageError(f"{path}: is converted from its fp32 file; put {given.name} beside it")
    files_of(given)  # for its errors
    model = onnx.load(str(given))
    inputs = {v.name: v for v in model.graph.input}
    with np.load(golden, allow_pickle=False) as arrays:
        shapes = {name: list(arrays[name].shape) for name in inputs}
    declared = [d.dim_value for v in inputs.values() for d in v.type.tensor_type.shape.dim[2:]]
    made: Precision = precision  # type: ignore[assignment]
    return Source(path, model, made, shapes, any(side == 0 for side in declared), golden, images)


def _compare(made: Conversion, session: ServedSession) -> None:
    """Outputs for the golden input against the golden outputs. Raises StageError when they are too far away."""
    with np.load(made.golden, allow_pickle=False) as arrays:
        golden = {name: arrays[name] for name in arrays.files}
    outputs = session.run({name: golden[name].astype(np.float32) for name in session.inputs})
    expected = [value for name, value in golden.items() if name not in session.inputs]
    for index, (reached, wanted) in enumerate(zip(outputs, expected, strict=True)):
        if reached.shape != wanted.shape:
            raise StageError(
                f"output {index} has shape {list(reached.shape)} instead of {list(wanted.shape)}: the conversion is wrong"
            )
    made.snr_db = round(min(snr_db(w, r) for w, r in zip(expected, outputs, strict=True)), 2)
    made.max_abs_error = max(float(np.abs(w - r).max()) for w, r in zip(expected, outputs, strict=True))
    if not made.snr_db >= LEAST_DB[made.precision]:  # not a number is too little
        raise StageError(
            f"its outputs are {made.snr_db:.1f} dB from onnxruntime's (largest error {made.max_abs_error:.3g}), less than "
            f"{LEAST_DB[made.precision]:g}: the conversion is wrong"
        )


def _evaluate(
    made: Conversion, session: ServedSession, env: Env, contract: Contract, reference: float
) -> None:
    """The metric in the runtime. Raises StageError when it is far below the artifact's own in onnxruntime."""
    model = predictor_of(session, contract, f"{made.artifact} in {made.runtime}")
    made.metrics = env.task.evaluate(model, "val")
    headline = env.task.metrics[0]
    drop = reference - made.metrics[headline.name]
    if not drop <= LARGEST_DROP[headline.share]:
        raise StageError(
            f"{headline.title} is {made.metrics[headline.name]:.{headline.digits}f} instead of "
            f"{reference:.{headline.digits}f} in onnxruntime: the conversion is wrong"
        )
