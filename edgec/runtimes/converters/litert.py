"""LiteRT (TensorFlow Lite): a .tflite by onnx2tf and TensorFlow, in a separate environment that `edgec doctor --install
litert-converter` makes.

int8 is calibrated by TensorFlow's converter, per-channel weights and asymmetric activations: it takes no scales from outside.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgec.core.errors import Missing, StageError
from edgec.core.files import write_atomic
from edgec.onnx.graph import clone
from edgec.onnx.proto import save_model
from edgec.onnx.scales import without_pairs
from edgec.runtimes.converters.litert_environment import GIGABYTES, converter_python
from edgec.runtimes.source import ConversionSource
from edgec.runtimes.tool import run_tool

PROGRAM = Path(__file__).with_name("litert_converter.py")
FILES = ("given.onnx", "any.onnx", "golden.npz", "images.npy", "job.json")


def convert(source: ConversionSource, folder: Path) -> str:
    """Write model.tflite, layout.json (how its inputs and outputs lie) and, for int8 with open sizes, any.tflite."""
    what = f"{source.path.name} for litert"
    python = converter_python()
    if python is None:
        raise Missing(
            f"{what}: its converter is not installed; edgec doctor --install litert-converter ({GIGABYTES} GB)"
        )
    int8 = source.precision == "int8"
    model = without_pairs(source.model)[0] if int8 else clone(source.model)
    if int8:  # XNNPACK's int8 kernels take no other size than the one that was calibrated
        if source.open_sizes:
            save_model(model, folder / "any.onnx")
        for value in model.graph.input:
            for dim, side in zip(value.type.tensor_type.shape.dim, source.shapes[value.name], strict=True):
                dim.dim_value = side
    save_model(model, folder / "given.onnx")
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
        (folder / file).unlink(missing_ok=True)
    return "model.tflite"


def fitting(images: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The middle of images [n, c, h, w] in the size of `shape`; smaller ones are reflected at their edges."""
    sides = list(shape[2:])
    short = [max(0, side - have) for side, have in zip(sides, images.shape[2:], strict=True)]
    if any(short):
        images = np.pad(images, [(0, 0), (0, 0), *((0, s) for s in short)], mode="symmetric")
    y, x = ((have - side) // 2 for side, have in zip(sides, images.shape[2:], strict=True))
    return images[:, :, y : y + sides[0], x : x + sides[1]]
