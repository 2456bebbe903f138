"""What a measuring process reads: one JSON object, on one line. `edgec.probe.__main__` documents the keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Required, TypedDict


class ProbeJob(TypedDict, total=False):
    what: Required[Literal["latency", "operators"]]
    runtime: Required[str]
    artifact: Required[str]  # an .onnx file, the folder of a package, or for torch the folder of a network
    threads: Required[int]
    batch: int
    pin: bool
    shapes: Mapping[str, Sequence[int]]  # sizes of inputs that the file leaves open
    golden: str | None  # .npz
    opener: str  # module:function that opens files, for a runtime that the probe does not know
    limit_s: float  # then the process ends itself
    warmup_seconds: float
    min_seconds: float
    max_seconds: float
    interval: float
    # of torch alone
    device: str  # cpu or cuda
    shape: Sequence[int]  # of the input, its batch left aside
    allow_code: bool
    mode: str
    layout: str
    precision: str
