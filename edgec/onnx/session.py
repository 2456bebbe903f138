"""onnxruntime on the CPU: the reference runtime, which runs the shipped .onnx unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgec.core.errors import Missing, StageError
from edgec.core.session import Array
from edgec.probe.session_options import session_options


class OnnxSession:
    """An .onnx file (or a serialised model) opened with a number of threads.

    `optimize=False` runs the graph as written, for parity checks; `optimized_path` saves what runs.
    `layout=False` leaves out the last step, which reorders weights and renames them. `small_memory` gives memory back to
    the arena after each operator's last use: a plan made beforehand for all values takes about twice as much.
    """

    def __init__(
        self,
        artifact: Path | bytes,
        threads: int = 1,
        optimize: bool = True,
        optimized_path: Path | None = None,
        layout: bool = True,
        small_memory: bool = False,
    ) -> None:
        try:
            import onnxruntime as ort
        except ImportError:
            raise Missing("onnxruntime is not installed; pip install onnxruntime") from None

        options = session_options(threads)
        options.enable_mem_pattern = not small_memory
        options.graph_optimization_level = (
            ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            if not optimize
            else ort.GraphOptimizationLevel.ORT_ENABLE_ALL
            if layout
            else ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        )
        if optimized_path is not None:
            options.optimized_model_filepath = str(optimized_path)
        place = str(artifact) if isinstance(artifact, Path) else "the model"
        if isinstance(artifact, Path) and not artifact.is_file():
            raise StageError(f"{place}: does not exist; check the path")
        source: Any = str(artifact) if isinstance(artifact, Path) else artifact
        try:
            self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own, none of them documented
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise StageError(f"{place}: onnxruntime cannot open it ({first}); export it again") from error
        self.inputs: Mapping[str, tuple[int | None, ...]] = {
            i.name: tuple(d if isinstance(d, int) else None for d in i.shape)
            for i in self._session.get_inputs()
        }
        self.outputs: list[str] = [o.name for o in self._session.get_outputs()]
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        for name, shape in self.inputs.items():
            if name not in feeds:
                raise StageError(f"input {name!r} is missing; the artifact takes {', '.join(self.inputs)}")
            given = feeds[name].shape
            if len(given) != len(shape) or any(
                w is not None and g != w for g, w in zip(given, shape, strict=True)
            ):
                wanted = " x ".join("any" if d is None else str(d) for d in shape)
                raise StageError(
                    f"input {name!r} has shape {' x '.join(map(str, given))}, the artifact takes {wanted}"
                )
        try:
            return [np.asarray(o) for o in self._session.run(None, dict(feeds))]
        except Exception as error:  # a wrong type, an unknown input, no memory: classes of its own
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            given = ", ".join(f"{name!r} {array.dtype}" for name, array in feeds.items())
            raise StageError(
                f"onnxruntime cannot run {given} ({first}); give {', '.join(self.inputs)}"
            ) from error
