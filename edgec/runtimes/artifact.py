"""Artifacts: an .onnx file with its contract inside (metadata_props) and beside it (.contract.json)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx

from edgec.core.errors import RecipeError, StageError
from edgec.core.files import write_atomic
from edgec.core.predictor import Predictor
from edgec.core.runtimes import RUNTIMES
from edgec.core.session import Array, Session
from edgec.core.table import dotted

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


def write_artifact(path: Path, model: onnx.ModelProto, contract: Mapping[str, Any]) -> None:
    """Write an .onnx file with its contract, and the contract beside it."""
    text = json.dumps(contract, indent=1)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {KEY: json.dumps(contract)})
    write_atomic(path, model.SerializeToString(deterministic=True))
    write_atomic(path.with_suffix(".contract.json"), text.encode())


def contract_of(session: Session, place: str) -> dict[str, Any]:
    """The contract inside an artifact. Raises StageError when there is none."""
    try:
        return cast("dict[str, Any]", json.loads(session.metadata[KEY]))
    except (KeyError, ValueError):
        raise StageError(
            f"{place}: carries no contract of edgec; give a file from a run's artifacts/"
        ) from None


def predictor(path: Path, threads: int = 1, runtime: str = "onnxruntime") -> Predictor:
    """The predictor of an artifact in a runtime, by the contract that it carries."""
    session = open_artifact(path, threads, runtime)
    return predictor_of(session, contract_of(session, str(path)), str(path))


def predictor_of(session: Session, contract: Mapping[str, Any], place: str) -> Predictor:
    """The predictor of an opened artifact. `place` names it in errors."""
    name = contract["input"]["name"]
    batch = session.inputs[name][0] if name in session.inputs else 1

    def run(images: Array) -> list[Array]:
        if batch is None or len(images) == batch:
            return session.run({name: images})
        if batch != 1:
            raise StageError(f"{place}: takes batches of {batch}, {len(images)} images were given")
        each = [session.run({name: images[i : i + 1]}) for i in range(len(images))]
        if contract["output"] == "boxes":
            for index, outputs in enumerate(each):
                outputs[3] = np.full_like(outputs[3], index)
        return [np.concatenate(parts) for parts in zip(*each, strict=True)]

    return Predictor(run, contract, None if batch == 1 else batch)
