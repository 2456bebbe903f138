"""ncnn on the CPU. A package's file is the .param; the weights are in the .bin of the same name. Batches run one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np


def open_model(path: Path, threads: int, package: Mapping[str, Any]) -> tuple[Callable[..., list[Any]], str]:
    ncnn: Any = import_module("ncnn")

    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.opt.num_threads = threads
    half = package["precision"] == "fp16"
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
        setattr(net.opt, name, half)
    net.opt.use_bf16_storage = False
    if net.load_param(str(path)) != 0 or net.load_model(str(path.with_suffix(".bin"))) != 0:
        raise ValueError(f"{path}: ncnn cannot load it")
    inputs = dict(zip(package["inputs"], net.input_names()))
    outputs = net.output_names()

    def one(feeds: Mapping[str, Any], index: int) -> list[Any]:
        extractor = net.create_extractor()
        extractor.set_light_mode(True)
        kept = [ncnn.Mat(np.ascontiguousarray(feeds[name][index])).clone() for name in inputs]
        for mat, name in zip(kept, inputs.values()):
            extractor.input(name, mat)
        return [np.array(extractor.extract(name)[1]) for name in outputs]

    def run(feeds: Mapping[str, Any]) -> list[Any]:
        count = len(next(iter(feeds.values())))
        each = [one(feeds, index) for index in range(count)]
        return [np.stack(parts) for parts in zip(*each)]

    return run, str(ncnn.__version__)
