"""Runs in the environment of LiteRT's converter, without edgec: given.onnx in the current folder becomes model.tflite, and
any.onnx, where it is there, any.tflite.

job.json: {"precision", "input", "outputs"}; images.npy: [n, c, h, w] to calibrate int8 with; golden.npz: an input with its
outputs, by which the outputs of the .tflite are told apart. Writes layout.json: {"input": {"channels_last"}, "outputs":
[{"position", "channels_last"}]} in the order of the graph's outputs.
"""

from __future__ import annotations

import json
import os
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TF_ENABLE_ONEDNN_OPTS": "0"}

import numpy as np

# onnx2tf fetches this file of pictures from the network where it is not there; its contents are not used here
PICTURES = "calibration_image_sample_data_20x128x128x3_float32.npy"


def main() -> int:
    job: dict[str, Any] = json.loads(Path("job.json").read_text(encoding="utf-8"))
    np.save(PICTURES, np.zeros((20, 128, 128, 3), np.float32))
    for name in ("given", "any"):
        if Path(f"{name}.onnx").is_file():
            written = converted(f"{name}.onnx", job["precision"])
            Path("model.tflite" if name == "given" else "any.tflite").write_bytes(written)
    with np.load("golden.npz", allow_pickle=False) as arrays:
        golden = {name: arrays[name] for name in arrays.files}
    layout = layout_of(Path("model.tflite"), golden[job["input"]], [golden[name] for name in job["outputs"]])
    Path("layout.json").write_text(json.dumps(layout), encoding="utf-8")
    Path(PICTURES).unlink()
    return 0


def converted(file: str, precision: str) -> bytes:
    """A .tflite of an ONNX file."""
    import_module("onnx2tf").convert(
        input_onnx_file_path=file, output_folder_path="saved", non_verbose=True, not_use_onnxsim=True
    )
    if precision == "int8":
        content = calibrated(np.load("images.npy"))
    else:
        half = "float16" if precision == "fp16" else "float32"
        content = (Path("saved") / f"{Path(file).stem}_{half}.tflite").read_bytes()
    shutil.rmtree("saved")
    return content


def calibrated(images: np.ndarray) -> bytes:
    """int8 by TensorFlow's converter: floats in and out, per-channel weights, operators that have no int8 stay in float."""
    tensorflow: Any = import_module("tensorflow")

    converter = tensorflow.lite.TFLiteConverter.from_saved_model("saved")
    converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([np.moveaxis(image, 0, -1)[None]] for image in images)
    converter.target_spec.supported_ops = [
        tensorflow.lite.OpsSet.TFLITE_BUILTINS_INT8, tensorflow.lite.OpsSet.TFLITE_BUILTINS,
    ]  # fmt: skip
    return converter.convert()


def layout_of(path: Path, image: np.ndarray, wanted: list[np.ndarray]) -> dict[str, Any]:
    """How the file's input and outputs lie, found by running it on the golden input."""
    interpreter: Any = import_module("ai_edge_litert.interpreter").Interpreter(str(path), num_threads=1)
    given = interpreter.get_input_details()[0]
    moved = np.ascontiguousarray(np.moveaxis(image, 1, -1)) if image.ndim == 4 else image
    last = image.ndim == 4 and int(given["shape"][-1]) == moved.shape[-1]
    fed = moved if last else image
    if list(given["shape"]) != list(fed.shape):
        interpreter.resize_tensor_input(given["index"], fed.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], fed.astype(np.float32))
    interpreter.invoke()
    outputs = [interpreter.get_tensor(o["index"]) for o in interpreter.get_output_details()]
    return {"input": {"channels_last": last}, "outputs": [position_of(value, outputs) for value in wanted]}


def position_of(value: np.ndarray, found: list[np.ndarray]) -> dict[str, Any]:
    """Which output of the file is nearest to `value`, and whether it lies with its channels last."""
    ways: list[tuple[float, int, bool]] = []
    for index, each in enumerate(found):
        for last in (True, False) if each.ndim == 4 else (False,):
            shown = np.moveaxis(each, -1, 1) if last else each
            if shown.shape == value.shape:
                ways.append((float(np.abs(shown.astype(np.float64) - value).mean()), index, last))
    if not ways:
        raise SystemExit(
            f"no output has the shape {list(value.shape)}; there are {[list(f.shape) for f in found]}"
        )
    _, index, last = min(ways)
    return {"position": index, "channels_last": last}


if __name__ == "__main__":
    raise SystemExit(main())
