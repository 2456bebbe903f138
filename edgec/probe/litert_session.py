"""LiteRT on the CPU, through its XNNPACK kernels. Beside the .tflite lies layout.json: where channels come last.

any.tflite, where it is there, runs inputs of other sizes, in LiteRT's own kernels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def open_model(path: Path, threads: int, package: Mapping[str, Any]) -> tuple[Callable[..., list[Any]], str]:
    module: Any = import_module("ai_edge_litert.interpreter")
    layout = json.loads((path.parent / "layout.json").read_text(encoding="utf-8"))
    (name,) = package["inputs"]
    anything = path.with_name("any.tflite")
    opened: dict[tuple[int, ...], Any] = {}  # by the shape of the input
    laid_out: list[Any] = [None, None]  # the last image, as given and as the file takes it

    def interpreter_for(shape: tuple[int, ...]) -> Any:
        if shape not in opened:
            own = module.Interpreter(str(path), num_threads=threads)
            if shape != tuple(own.get_input_details()[0]["shape"]):
                if (
                    anything.is_file()
                ):  # int8: XNNPACK ends the process on another size than the calibrated one
                    plain = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
                    own = module.Interpreter(
                        str(anything), num_threads=threads, experimental_op_resolver_type=plain
                    )
                own.resize_tensor_input(own.get_input_details()[0]["index"], shape)
            own.allocate_tensors()
            opened.clear()
            opened[shape] = own
        return opened[shape]

    def run(feeds: Mapping[str, Any]) -> list[Any]:
        if laid_out[0] is not feeds[name]:
            image = np.moveaxis(feeds[name], 1, -1) if layout["input"]["channels_last"] else feeds[name]
            laid_out[:] = [feeds[name], np.ascontiguousarray(image, np.float32)]
        interpreter = interpreter_for(laid_out[1].shape)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], laid_out[1])
        interpreter.invoke()
        details = interpreter.get_output_details()
        outputs: list[Any] = []
        for each in layout["outputs"]:
            value = interpreter.get_tensor(details[each["position"]]["index"])
            outputs.append(np.moveaxis(value, -1, 1) if each["channels_last"] else value)
        return outputs

    return run, version("ai-edge-litert")
