"""What sums of 8-bit products without saturation cost and bring in onnxruntime on this CPU (session.x64quantprecision).

    python tools/bench_sums.py [--artifact model.int8.onnx]

Both sessions, default and exact, take turns on one thread. Without an artifact: the shipped super-resolution network in int8
as the quantize stage makes it. Ends with one JSON line: whether the default overflows here, how far its outputs are from the
exact ones (largest difference), and how many times as long sums without saturation take (95 % interval).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from results_file import add_write, finish
from results_schema import Figure

from edgec.bench.statistics import ratio_interval
from edgec.probe.onnx_session import feeds_of
from edgec.probe.sums import EXACT, overflow
from edgec.recipe import load
from edgec.run.pipeline import compress

ROUNDS = 10
RUNS = 10  # in a round


def opened(artifact: Path, exact: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry(EXACT, str(int(exact)))
    return onnxruntime.InferenceSession(str(artifact), options, providers=["CPUExecutionProvider"])


def shipped(out: Path) -> Path:
    """The network of the super-resolution demo, not pruned, in int8."""
    stages = {"quantize": {"images": 32}, "export": {"precisions": ["int8"], "dense": False}}
    tree = load("superres").model_dump(mode="json")
    run = compress(tree | {"stages": stages, "gates": {}, "pictures": 0, "name": "sums"}, run=out)
    return run.folder / "artifacts" / "model.int8.onnx"


def timed(session: Any, feeds: dict[str, np.ndarray]) -> list[float]:
    """Milliseconds of each run of a round."""
    found: list[float] = []
    for _ in range(RUNS):
        start = time.perf_counter_ns()
        session.run(None, feeds)
        found.append((time.perf_counter_ns() - start) / 1e6)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--artifact", type=Path)
    parser.add_argument("--side", type=int, default=64, help="of the input, where the file leaves it open")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_sums"))
    add_write(parser)
    given = parser.parse_args()
    artifact = given.artifact or shipped(given.out)
    default, exact = opened(artifact, exact=False), opened(artifact, exact=True)
    shapes = {node.name: [1, 3, given.side, given.side] for node in default.get_inputs()}
    feeds = feeds_of(default, shapes)
    outputs = [session.run(None, feeds) for session in (default, exact)]
    rounds = [(timed(exact, feeds), timed(default, feeds)) for _ in range(ROUNDS)]
    ratio, low, high = ratio_interval([slow for slow, _ in rounds], [quick for _, quick in rounds])
    found = {
        "artifact": str(artifact), "overflow": overflow(),
        "max_difference": max(float(np.abs(a - b).max()) for a, b in zip(*outputs, strict=True)),
        "exact_over_default": round(ratio, 2), "low": round(low, 2), "high": round(high, 2),
    }  # fmt: skip
    row = "shipped super-resolution network, int8" if given.artifact is None else artifact.name
    row += ", exact sums against the default"
    figure = Figure(
        row=row, column="ratio", value=round(ratio, 2), digits=2, low=round(low, 2), high=round(high, 2)
    )
    finish("sums", [figure], given.write, found)


if __name__ == "__main__":
    main()
