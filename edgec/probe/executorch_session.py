"""ExecuTorch on the CPU. Its Python binding takes torch's tensors, so torch counts in the memory.

any.pte, where it is there, runs inputs of other sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def open_model(path: Path, threads: int, package: Mapping[str, Any]) -> tuple[Callable[..., list[Any]], str]:
    torch: Any = import_module("torch")
    runtime: Any = import_module("executorch.runtime").Runtime.get()
    import_module("executorch.extension.pybindings._C")._unsafe_reset_threadpool(threads)
    ((name, shape),) = package["inputs"].items()
    programs: dict[Path, Any] = {}
    methods: dict[Path, Any] = {}
    kept: list[Any] = [None, None]  # the last image, as given and as a tensor

    def method_of(file: Path) -> Any:
        if file not in methods:
            programs[file] = runtime.load_program(file)
            methods[file] = programs[file].load_method("forward")
        return methods[file]

    def run(feeds: Mapping[str, Any]) -> list[Any]:
        if kept[0] is not feeds[name]:
            kept[:] = [feeds[name], torch.as_tensor(np.ascontiguousarray(feeds[name], np.float32))]
        fits = list(kept[1].shape) == list(shape)
        method = method_of(path if fits else path.with_name("any.pte"))
        return [output.numpy() for output in method.execute([kept[1]])]

    method_of(path)
    return run, version("executorch")
