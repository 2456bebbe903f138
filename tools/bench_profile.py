"""How far the timing harness can be trusted: `python tools/bench_profile.py`, one JSON line at the end.

A/A: one file under two names; the interval of the ratio should contain 1.
Bias: the harness's median against a bare loop of onnxruntime, both in fresh pinned processes, in turns.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgec.devices import local, statistics
from edgec.events import Events
from edgec.recipe import Profile
from edgec.stages.profile import profile_artifacts

ROUNDS = 6
SECONDS = 1.0
BARE = """
import os, sys, time, json
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
import numpy as np, onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
x = np.random.default_rng(0).random(session.get_inputs()[0].shape, dtype=np.float32)
times = []
end = time.perf_counter() + 2 * float(sys.argv[2])
while time.perf_counter() < end:
    start = time.perf_counter_ns()
    session.run(None, {"images": x})
    times.append((time.perf_counter_ns() - start) / 1e6)
print(json.dumps(times[len(times) // 2:]))
"""


def conv_net(path: Path, layers: int = 8, channels: int = 32, side: int = 80) -> None:
    """A chain of 3 x 3 convolutions with LeakyReLU, about 50 M MACs."""
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    value, width = "images", 3
    for index in range(layers):
        kernel = rng.standard_normal((channels, width, 3, 3), dtype=np.float32) / (3 * width**0.5)
        weights.append(numpy_helper.from_array(kernel, f"w{index}"))
        nodes.append(
            helper.make_node("Conv", [value, f"w{index}"], [f"c{index}"], name=f"conv{index}", pads=[1] * 4)
        )
        nodes.append(
            helper.make_node("LeakyRelu", [f"c{index}"], [f"a{index}"], name=f"act{index}", alpha=0.1)
        )
        value, width = f"a{index}", channels
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, side])
    output = helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, channels, side, side])
    graph = helper.make_graph(nodes, "chain", [image], [output], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))


def main() -> int:
    config = Profile(
        runtimes=("onnxruntime",),
        threads=(1,),
        processes=ROUNDS,
        min_seconds=SECONDS / 2,
        max_seconds=SECONDS,
    )
    job = {"what": "latency", "runtime": "onnxruntime", "threads": 1, "warmup_seconds": SECONDS / 2,
           "min_seconds": SECONDS, "max_seconds": SECONDS, "interval": 1e-6}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "a.onnx", Path(folder) / "b.onnx"
        conv_net(first)
        second.write_bytes(first.read_bytes())
        figures = profile_artifacts([first, second], config, Events())
        harness: list[list[float]] = []
        bare: list[list[float]] = []
        for _ in range(ROUNDS):
            harness.append(local.probe(job | {"artifact": str(first)})["samples_ms"])
            command = [sys.executable, "-c", BARE, str(first), str(SECONDS)]
            bare.append(
                json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
            )
    same = figures["speedups"][0]
    bias, low, high = statistics.ratio_interval(harness, bare)
    print(
        json.dumps(
            {
                "verdict": figures["verdict"],
                "reasons": figures["reasons"],
                "median_ms": figures["cells"][0]["median_ms"],
                "aa_ratio": [same["ratio"], same["ci_low"], same["ci_high"]],
                "aa_contains_1": same["ci_low"] <= 1 <= same["ci_high"],
                "harness_by_bare_loop": [bias, low, high],
                "rounds": ROUNDS,
            }
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
