"""The files that an artifact consists of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from edgec.core.errors import StageError
from edgec.onnx.proto import load_model


def files_of(artifact: Path) -> list[Path]:
    """An .onnx file with the files of its external data, or all files of a package's folder.

    Raises StageError when the file is missing or damaged, or names data that is missing or outside its folder.
    """
    if artifact.is_dir():
        return sorted(path for path in artifact.iterdir() if path.is_file())
    if not artifact.is_file():
        raise StageError(f"{artifact}: not found; check the path")
    model = read_graph(artifact)
    folder = artifact.resolve().parent
    others: list[Path] = []
    for name, tensor in _external(model):
        path = (folder / name).resolve()
        if not name or not path.is_relative_to(folder):
            raise StageError(
                f"{artifact}: the weights of {tensor!r} lie in {name!r}, outside the artifact's folder; export it again, "
                "with the weights inside the file"
            )
        if not path.is_file():
            raise StageError(
                f"{artifact}: the weights of {tensor!r} lie in {name!r}, which is missing; copy it beside the artifact"
            )
        others.append(path)
    return [artifact, *dict.fromkeys(others)]


def read_graph(artifact: Path) -> onnx.ModelProto:
    """The model without external data. Raises StageError when it cannot be read."""
    try:
        model = load_model(artifact, weights=False)
    except OSError as error:
        raise StageError(f"{artifact}: cannot be read ({error.strerror})") from error
    except Exception as error:  # protobuf's DecodeError has no public home
        raise StageError(
            f"{artifact}: is not an ONNX file, or only the beginning of one; export it again"
        ) from error
    if not model.graph.node:
        raise StageError(f"{artifact}: holds no graph, or only the beginning of one; export it again")
    return model


def _external(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """(location, tensor) of what lies in other files."""
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            places = {entry.key: entry.value for entry in tensor.external_data}
            yield places.get("location", ""), tensor.name
