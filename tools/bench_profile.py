"""The timing harness put to the test, and every runtime in figures: `python tools/bench_profile.py`, one JSON line at the end.

A/A: one file under two names; the interval of the ratio should contain 1.
Bias: the harness's median against a bare loop of onnxruntime, both in fresh pinned processes, in turns.
Repeatability: one file profiled five times; how far the five medians lie apart, and the verdict of each.
Matrix: the artifacts of finished runs in every runtime that is installed, with their accuracy there. Without --runs those of the
two demo recipes, which are run first (15 minutes on two cores).

    --runs FOLDER,FOLDER    --parts trust,matrix    --threads 1,2    --out FOLDER (of the demo runs, and for the figures in full)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from results_file import add_write, finish
from results_schema import Figure

from edgec.bench import statistics
from edgec.bench.files import profile_artifacts
from edgec.core.events import Events
from edgec.core.network import Network
from edgec.core.results.profile import ProfileResult
from edgec.devices import local
from edgec.devices.probe_job import ProbeJob
from edgec.env import Env
from edgec.recipe import Profile, TorchWays, load
from edgec.run.pipeline import compress
from edgec.run.task import make_task
from edgec.runtimes.convert import installed
from edgec.stages.profile import profile

ROUNDS = 6
REPEATS = 5
DEMOS = ("detector", "superres")
SECONDS = 1.0
BARE = """
import os, sys, time, json
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
import numpy as np, onnxruntime as ort
from edgec.probe.sums import make_exact
options = ort.SessionOptions()
make_exact(options)  # as edgec does
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


def trust() -> dict[str, Any]:
    """A/A, bias and repeatability on a chain of convolutions."""
    config = Profile(
        runtimes=("onnxruntime",),
        threads=(1,),
        processes=ROUNDS,
        min_seconds=SECONDS / 2,
        max_seconds=SECONDS,
    )
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "a.onnx", Path(folder) / "b.onnx"
        conv_net(first)
        second.write_bytes(first.read_bytes())
        figures = profile_artifacts([first, second], config, Events()).first
        job = ProbeJob(
            what="latency", runtime="onnxruntime", artifact=str(first), threads=1, warmup_seconds=SECONDS / 2,
            min_seconds=SECONDS, max_seconds=SECONDS, interval=1e-6,
        )  # fmt: skip
        harness: list[list[float]] = []
        bare: list[list[float]] = []
        for _ in range(ROUNDS):
            answer: Any = local.probe(job)
            harness.append(answer["samples_ms"])
            command = [sys.executable, "-c", BARE, str(first), str(SECONDS)]
            bare.append(
                json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
            )
        again = [profile_artifacts([first], config, Events()).first for _ in range(REPEATS)]
    same = figures.speedups[0]
    medians = [each.cells[0].median_ms for each in again]
    bias, low, high = statistics.ratio_interval(harness, bare)
    return {
        "verdict": figures.verdict,
        "reasons": figures.reasons,
        "median_ms": figures.cells[0].median_ms,
        "aa_ratio": [same.ratio, same.ci_low, same.ci_high],
        "aa_contains_1": same.ci_low <= 1 <= same.ci_high,
        "harness_by_bare_loop": [bias, low, high],
        "repeated_medians_ms": medians,
        "repeated_spread": max(medians) / min(medians) - 1,
        "repeated_verdicts": [each.verdict for each in again],
        "rounds": ROUNDS,
    }


def matrix(run: Path, threads: Sequence[int], out: Path) -> dict[str, Any]:
    """The artifacts of a run in every runtime, with accuracy on the val split. Figures in full go to `out`."""
    recipe = load(run / "recipe.yaml")
    made = next(run / name for name in ("artifacts", "rejected") if (run / name).is_dir())
    known = json.loads((run / "report.json").read_text(encoding="utf-8"))["artifacts"]
    task = make_task(recipe, None)
    network = Network.load(made / "network")
    config = Profile(
        runtimes=("onnxruntime", *installed()[0], "torch"),
        threads=tuple(threads),
        torch=TorchWays(modes=("eager", "compiled"), precisions=("fp32", "bf16")),
        min_seconds=0.3,
        max_seconds=1.5,
    )
    with tempfile.TemporaryDirectory() as folder:
        inputs, scratch, files = (Path(folder) / name for name in ("inputs", "scratch", "out"))
        for each in (inputs / "golden", scratch, files):
            each.mkdir(parents=True)
        for name in known:
            if not name.endswith(("tile", "codebook")):
                for place in (f"{name}.onnx", f"{name}.contract.json", f"golden/{name}.npz"):
                    (inputs / place).symlink_to((made / place).absolute())
        env = Env(task, "profile", Events(listeners=(tell,)), network, scratch, files, inputs)
        _, result = profile(config, network, env)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{recipe.name}.json").write_text(result.model_dump_json(), encoding="utf-8")
    return {
        "verdict": result.first.verdict,
        "reasons": result.first.reasons,
        "rows": rows(result, known, task.metric),
    }


def rows(result: ProfileResult, known: Mapping[str, Any], metric: str) -> list[dict[str, Any]]:
    """A line for each case, and for each conversion that was refused."""
    conversions = {(c.artifact, c.runtime): c for c in result.conversions}
    lines: list[dict[str, Any]] = []
    for cell in result.first.cells:
        conversion = conversions.get((cell.artifact, cell.runtime))
        file: Mapping[str, Any] = known[cell.artifact.name]
        reached = conversion.metrics.get(metric) if conversion is not None else None
        if reached is None:
            reached = file["val"][metric]
            if conversion is None and cell.runtime.startswith("torch"):
                reached += file.get("drop_from_torch") or 0.0
        ratio = result.first.across_of(cell.artifact, cell.runtime, cell.threads, cell.batch)
        lines.append(
            {
                "artifact": cell.artifact.name, "runtime": cell.runtime, "threads": cell.threads,
                "ms": round(cell.median_ms, 3), "interval": [round(cell.ci_low_ms, 3), round(cell.ci_high_ms, 3)],
                "times_dense": [round(r, 3) for r in (ratio.ratio, ratio.ci_low, ratio.ci_high)] if ratio else None,
                metric: round(reached, 4), "db": conversion.snr_db if conversion is not None else None,
                "bytes": (conversion.bytes if conversion is not None else 0) or file["bytes"],
                "peak_mb": round((cell.peak_rss_bytes or 0) / 1e6, 1),
            }
        )  # fmt: skip
    refused = [c for c in result.conversions if not c.passed]
    return lines + [
        {"artifact": c.artifact.name, "runtime": c.runtime, "snr_db": c.snr_db, "reason": c.reason}
        for c in refused
    ]


def harness_figures(measured: Mapping[str, Any]) -> list[Figure]:
    """The cells of the results page on the harness itself."""
    same, low, high = measured["aa_ratio"]
    bias, bias_low, bias_high = measured["harness_by_bare_loop"]
    medians, verdicts = measured["repeated_medians_ms"], sorted(set(measured["repeated_verdicts"]))
    note = f"{min(medians):.2f} to {max(medians):.2f} ms, verdicts: {', '.join(verdicts)}"
    spread = round(100 * measured["repeated_spread"], 1)
    return [
        Figure(row="one file under two names, ratio", column="value", value=same, digits=3, low=low, high=high),
        Figure(row="harness against a bare loop, ratio", column="value", value=bias, digits=3, low=bias_low, high=bias_high),
        Figure(row="one file profiled five times, largest difference of medians", column="value", value=spread, digits=1,
               unit="%", note=note),
    ]  # fmt: skip


def runtime_figures(measured: Mapping[str, Any]) -> list[Figure]:
    """The cells of the results page: each artifact in each runtime, by run."""
    found: list[Figure] = []
    for name, run in measured.items():
        for line in run.get("rows", ()):
            row = f"{line['runtime']}, {line['artifact']}"
            if "ms" not in line:
                found.append(Figure(table=name, row=row, column="accuracy", value=None, note="refused"))
                continue
            digits = 3 if "psnr" in line else 2
            accuracy = line["psnr"] if "psnr" in line else 100 * line["map50"]
            found.append(Figure(table=name, row=row, column="median ms", value=line["ms"], digits=2))
            if line["times_dense"]:
                ratio, low, high = line["times_dense"]
                column = "speed-up over dense fp32 in onnxruntime"
                found.append(
                    Figure(table=name, row=row, column=column, value=ratio, digits=2, low=low, high=high)
                )
            value = round(accuracy, digits)
            found.append(Figure(table=name, row=row, column="accuracy", value=value, digits=digits))
    return found


def tell(event: Any) -> None:
    if getattr(event, "message", ""):
        print(event.message, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", default="", help="folders of finished runs")
    parser.add_argument("--parts", default="trust,matrix")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_profile"))
    add_write(parser)
    given = parser.parse_args()
    found: dict[str, Any] = {}
    if "trust" in given.parts:
        found["trust"] = trust()
        print(json.dumps(found["trust"]), file=sys.stderr, flush=True)
    if "matrix" in given.parts:
        runs = [Path(run) for run in given.runs.split(",") if run]
        if not runs:
            runs = [compress(demo, run=given.out / demo).folder for demo in DEMOS]
        for run in runs:
            threads = [int(count) for count in given.threads.split(",")]
            found[run.name] = matrix(run, threads, given.out / "figures")
            for row in found[run.name]["rows"]:
                print(json.dumps(row), file=sys.stderr, flush=True)
    if "trust" in found:
        finish("harness", harness_figures(found["trust"]), given.write)
    finish("runtimes", runtime_figures(found), given.write, found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
