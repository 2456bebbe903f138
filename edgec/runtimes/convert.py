"""Converting an .onnx file for another runtime: a folder with the runtime's own files and package.json.

Converters are programs of others: each runs in a process of its own, which is ended after a limit.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from edgec.core.errors import Missing, RecipeError, StageError
from edgec.core.files import write_atomic

LIMIT_SECONDS = 300.0
Precision = Literal["fp32", "fp16", "int8"]
# modules that each runtime and its converter need
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "openvino": ("openvino",),
    "ncnn": ("ncnn", "pnnx"),
    "mnn": ("MNN",),
    "litert": ("ai_edge_litert",),
    "executorch": ("executorch",),
}
# No program that converts may install or send anything.
QUIET = {"PIP_NO_INDEX": "1", "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


@dataclass(frozen=True)
class Source:
    """What is converted: `model` in float32 without quantize-dequantize pairs, or for int8 the QDQ graph itself."""

    path: Path
    model: onnx.ModelProto
    precision: Precision
    shapes: Mapping[str, Sequence[int]]  # of the inputs, without open sizes
    open_sizes: bool = False  # other heights and widths go as well
    golden: Path = Path()  # an input with its outputs
    images: np.ndarray | None = (
        None  # [n, c, h, w] as the network takes them, for converters that calibrate int8
    )


Convert = Callable[[Source, Path], str]  # writes into a folder, gives the name of the main file


def installed() -> tuple[list[str], list[str]]:
    """(there, not there): the runtimes that take files of their own, by whether their packages are installed."""
    from edgec.runtimes.converters.litert_environment import converter_python

    there = [
        name
        for name, needed in PACKAGES.items()
        if all(find_spec(module) for module in needed) and (name != "litert" or converter_python())
    ]
    return there, [name for name in PACKAGES if name not in there]


def converter(runtime: str) -> Convert:
    """How files get into a runtime. Raises RecipeError for an unknown one."""
    match runtime:
        case "openvino":
            from edgec.runtimes.converters.openvino import convert
        case "ncnn":
            from edgec.runtimes.converters.ncnn import convert
        case "mnn":
            from edgec.runtimes.converters.mnn import convert
        case "litert":
            from edgec.runtimes.converters.litert import convert
        case "executorch":
            from edgec.runtimes.converters.executorch import convert
        case _:
            raise RecipeError(
                f"runtime {runtime!r} is unknown; there are onnxruntime, openvino, ncnn, mnn, litert, executorch, torch"
            )
    return convert


def package(runtime: str, source: Source, folder: Path) -> Path:
    """Convert into `folder`, which is made anew; gives the folder.

    Raises Missing without the runtime's packages, StageError when the converter fails, crashes or hangs.
    """
    convert = converter(runtime)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    file = convert(source, folder)
    if not (folder / file).is_file():
        raise StageError(f"{source.path.name} for {runtime}: nothing was written")
    told = {
        "runtime": runtime,
        "file": file,
        "precision": source.precision,
        "inputs": {name: list(shape) for name, shape in source.shapes.items()},
        "outputs": [o.name for o in source.model.graph.output],
        "source": source.path.name,
    }
    write_atomic(folder / "package.json", json.dumps(told, indent=1).encode())
    return folder


def run_tool(
    command: Sequence[str], place: Path, what: str, extra: str, limit_s: float = LIMIT_SECONDS
) -> None:
    """Run a converter in `place`. Its words are told when it fails."""
    beside = str(Path(sys.executable).parent)  # programs of this environment, also when it is not activated
    places = os.pathsep.join([beside, os.environ.get("PATH", "")])
    program = shutil.which(command[0], path=places)
    if program is None:
        raise Missing(f"{what}: {command[0]} is not installed; pip install 'edgec[{extra}]'")
    environment = {**os.environ, **QUIET}
    try:
        done = subprocess.run(
            [program, *command[1:]], cwd=place, env=environment, capture_output=True, encoding="utf-8", errors="replace",
            timeout=limit_s, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise StageError(f"{what}: the converter took more than {limit_s:.0f} s and was ended") from None
    if done.returncode != 0:
        if "ModuleNotFoundError" in done.stderr:
            raise Missing(f"{what}: {done.stderr.strip().splitlines()[-1]}; pip install 'edgec[{extra}]'")
        tail = " | ".join((done.stdout + done.stderr).strip().splitlines()[-3:]) or "no message"
        how = f"status {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise StageError(f"{what}: the converter ended with {how}: {tail}")


def run_python(code: str, arguments: Sequence[str], place: Path, what: str, extra: str) -> None:
    """`run_tool` for a few lines of Python."""
    run_tool([sys.executable, "-P", "-c", code, *arguments], place, what, extra)
