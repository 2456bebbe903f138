"""LiteRT (TensorFlow Lite): a .tflite by onnx2tf and TensorFlow, in an environment of their own that `edgec doctor --install
litert-converter` makes.

int8 is calibrated by TensorFlow's converter, per-channel weights and asymmetric activations: it takes no scales from outside.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from edgec.errors import Missing, StageError
from edgec.files import write_atomic
from edgec.runtimes.package import Source, run_tool
from edgec.runtimes.scales import without_pairs

PROGRAM = Path(__file__).with_name("litert_converter.py")
PACKAGES = ("onnx2tf==1.29.24",)  # which names the exact release of all that it needs
PYTHONS = ((3, 10), (3, 12))  # for which TensorFlow 2.19 has wheels
DONE = "complete.json"
GIGABYTES = 2.6
FILES = ("given.onnx", "golden.npz", "images.npy", "job.json")


def convert(source: Source, folder: Path) -> str:
    """Write model.tflite, and layout.json: how its inputs and outputs lie."""
    what = f"{source.path.name} for litert"
    python = converter_python()
    if python is None:
        raise Missing(
            f"{what}: its converter is not installed; edgec doctor --install litert-converter ({GIGABYTES} GB)"
        )
    int8 = source.precision == "int8"
    model = (
        without_pairs(source.model)[0]
        if int8
        else onnx.ModelProto.FromString(source.model.SerializeToString())
    )
    if int8:  # its kernels take no other size than the one that was calibrated
        for value in model.graph.input:
            for dim, side in zip(value.type.tensor_type.shape.dim, source.shapes[value.name], strict=True):
                dim.dim_value = side
    onnx.save(model, str(folder / "given.onnx"))
    with np.load(source.golden, allow_pickle=False) as arrays:
        golden = {name: arrays[name] for name in arrays.files}
    np.savez(folder / "golden.npz", allow_pickle=False, **golden)
    (name, shape), *more = source.shapes.items()
    if more:
        raise StageError(f"{what}: it has {1 + len(more)} inputs; networks with one image are converted")
    images = fitting(source.images, shape) if source.images is not None else golden[name]
    np.save(folder / "images.npy", images)
    job = {"precision": source.precision, "input": name, "outputs": [o.name for o in model.graph.output]}
    write_atomic(folder / "job.json", json.dumps(job).encode())
    run_tool([str(python), "-I", str(PROGRAM)], folder, what, "litert")
    for file in FILES:
        (folder / file).unlink()
    return "model.tflite"


def fitting(images: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The middle of images [n, c, h, w] in the size of `shape`; smaller ones are reflected at their edges."""
    sides = list(shape[2:])
    short = [max(0, side - have) for side, have in zip(sides, images.shape[2:], strict=True)]
    if any(short):
        images = np.pad(images, [(0, 0), (0, 0), *((0, s) for s in short)], mode="symmetric")
    y, x = ((have - side) // 2 for side, have in zip(sides, images.shape[2:], strict=True))
    return images[:, :, y : y + sides[0], x : x + sides[1]]


def place() -> Path:
    """Where the converter's environment is: under $EDGEC_CONVERTERS, or the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("EDGEC_CONVERTERS", cache / "edgec" / "converters")) / "litert"


def converter_python() -> Path | None:
    """The Python of the converter's environment; None where it was not installed whole."""
    python = place() / "bin" / "python"
    return python if (place() / DONE).is_file() and python.exists() else None


def install_converter() -> Path:
    """Make the environment, with pip's words on the terminal; gives its folder.

    Raises Missing for a Python without TensorFlow, StageError when pip fails.
    """
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        first, last = (".".join(map(str, each)) for each in PYTHONS)
        raise Missing(
            f"TensorFlow is there for Python {first} to {last}; run edgec with one of these to install it"
        )
    folder = place()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DONE).unlink(missing_ok=True)
    commands = (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", *PACKAGES],
    )
    for command in commands:
        done = subprocess.run(command, check=False)
        if done.returncode != 0:
            raise StageError(f"{' '.join(command)}: ended with status {done.returncode}; see above")
    write_atomic(folder / DONE, json.dumps({"packages": PACKAGES}).encode())
    return folder
