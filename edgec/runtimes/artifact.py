"""Artifacts: an .onnx file with its contract inside (metadata_props) and beside it (.contract.json)."""

from __future__ import annotations

import json
from pathlib import Path

import onnx

from edgec.core.contract.base import Contract
from edgec.core.errors import RecipeError, StageError
from edgec.core.files import write_atomic
from edgec.core.predictor import Predictor
from edgec.core.runtimes import RUNTIMES
from edgec.core.session import Array, Session
from edgec.core.table import dotted
from edgec.runtimes.contract_reading import contract_of_json

KEY = "edgec.contract"


def open_artifact(path: Path, threads: int = 1, runtime: str = "onnxruntime") -> Session:
    """An artifact, opened in this process.

    Raises RecipeError for a runtime that is unknown or opens no files here, Missing for one that is not installed,
    StageError for a file that cannot run in it.
    """
    spec = RUNTIMES.row(runtime)
    if not spec.session:
        here = [row.name for row in RUNTIMES.rows() if row.session]
        raise RecipeError(f"runtime {runtime!r} opens no artifacts here; choose from {', '.join(here)}")
    return dotted(spec.session)(path, threads)


def write_artifact(path: Path, model: onnx.ModelProto, contract: Contract) -> None:
    """Write an .onnx file with its contract, and the contract beside it."""
    tree = contract.to_json()
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {KEY: json.dumps(tree)})
    write_atomic(path, model.SerializeToString(deterministic=True))
    write_atomic(path.with_suffix(".contract.json"), json.dumps(tree, indent=1).encode())


def contract_of(session: Session, place: str) -> Contract:
    """The contract inside an artifact, which `place` names in errors.

    Raises StageError when there is none, RecipeError for one that is damaged, of a newer version or of an unknown task.
    """
    text = session.metadata.get(KEY)
    if text is None:
        raise StageError(f"{place}: carries no contract of edgec; give a file from a run's artifacts/")
    return contract_of_json(text, place)


def predictor(path: Path, threads: int = 1, runtime: str = "onnxruntime") -> Predictor:
    """The predictor of an artifact in a runtime, by the contract that it carries."""
    session = open_artifact(path, threads, runtime)
    return predictor_of(session, contract_of(session, str(path)), str(path))


def predictor_of(session: Session, contract: Contract, place: str) -> Predictor:
    """The predictor of an opened artifact. `place` names it in errors."""
    name = contract.input.name
    batch = session.inputs[name][0] if name in session.inputs else 1

    def run(images: Array) -> list[Array]:
        if batch is None or len(images) == batch:
            return session.run({name: images})
        if batch != 1:
            raise StageError(f"{place}: takes batches of {batch}, {len(images)} images were given")
        return contract.joined([session.run({name: images[i : i + 1]}) for i in range(len(images))])

    return Predictor(run, contract, None if batch == 1 else batch, place)
