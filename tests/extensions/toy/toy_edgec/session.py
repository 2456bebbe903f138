"""Opens a converted file in a measuring process; imports nothing of edgec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnxruntime


def open_model(path: Path, threads: int, package: Mapping[str, Any]) -> tuple[Callable[..., list[Any]], str]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(package["outputs"], dict(feeds)), "1.0"
