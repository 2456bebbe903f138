# pyright: reportUnknownMemberType=false
"""Reading, writing and checking ONNX models, typed: onnx leaves open what a path may be."""

from __future__ import annotations

from pathlib import Path

import onnx


def load_model(path: Path, weights: bool = True) -> onnx.ModelProto:
    """The model in a file; without `weights`, what lies in other files beside it stays there."""
    return onnx.load(str(path), load_external_data=weights)


def save_model(model: onnx.ModelProto, path: Path) -> None:
    """Write a model, weights included, as one file."""
    onnx.save(model, str(path))


def check_model(model: onnx.ModelProto) -> None:
    """Raise onnx's ValidationError or InferenceError when the model is not valid ONNX, types and shapes included."""
    onnx.checker.check_model(model, full_check=True)
