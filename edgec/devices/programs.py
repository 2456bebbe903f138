"""The user's own benchmark programs, for devices without Python: how each is called, and what its output says.

They report averages (onnxruntime's a median as well) over the runs of a process: a process gives one figure, its
`samples_ms` has one entry, and percentiles of single runs are not known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from edgec.core.errors import StageError
from edgec.devices.device import SAFE
from edgec.devices.probe_job import ProbeJob
from edgec.runtimes.package_file import PackageFile

ARTIFACT = "artifact.onnx"  # the name of an .onnx file on a device
RUNS, WARMUPS = 50, 10
NUMBER = r"([0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?)"


@dataclass(frozen=True)
class Benchmark:
    """`program` runs artifacts of `runtime` on the device; its path was checked to be plain."""

    runtime: str  # ncnn, mnn, litert, onnxruntime
    program: str

    def script(self, folder: str, artifact: Path, job: ProbeJob) -> str:
        """The command, for files that lie in `folder` there. Raises StageError for a name that sh may take apart."""
        threads = int(job["threads"])
        package = _package(artifact)
        file = ARTIFACT if package is None else package.file
        if not SAFE.fullmatch(file):
            raise StageError(
                f"{artifact}: the name {file!r} of its file cannot be used in a command; convert it again"
            )
        match self.runtime:
            case "ncnn":  # loops, threads, powersave, gpu device, cooling down
                assert package is not None
                shape = ",".join(str(side) for side in reversed(next(iter(package.inputs.values()))[1:]))
                return f"cd {folder} && {self.program} {RUNS} {threads} 0 -1 0 param={file} shape=[{shape}]"
            case "mnn":  # folder of models, loops, warm-ups, forward type 0 = CPU, threads, precision 1 = as in the file
                return f"{self.program} {folder} {RUNS} {WARMUPS} 0 {threads} 1"
            case "litert":
                return (
                    f"{self.program} --graph={folder}/{file} --num_threads={threads} --num_runs={RUNS} "
                    f"--warmup_runs={WARMUPS}"
                )
            case _:
                return f"{self.program} -e cpu -m times -r {RUNS} -x {threads} -y 1 -I {folder}/{file}"

    def answer(self, output: str, artifact: Path, what: str) -> dict[str, JsonValue]:
        """What a measuring process would say. Raises StageError when there is no figure in the output."""
        figures = parse(self.runtime, output)
        if figures is None:
            tail = " | ".join(output.strip().splitlines()[-3:]) or "no output"
            raise StageError(
                f"{what}: {self.program} reported no time: {tail}; is it the benchmark of {self.runtime}?"
            )
        package = _package(artifact)
        inputs = inputs_of(artifact) if package is None else package.inputs
        return {
            "averages": True,
            "runs": RUNS,
            "inputs": {name: [*shape] for name, shape in inputs.items()},
            "versions": {},
            **figures,
        }


def parse(runtime: str, output: str) -> dict[str, JsonValue] | None:
    """{"samples_ms": [milliseconds of a run]} and what else the program reports; None where it reports no time.

    benchncnn: `name  min = 5.2  max = 6.1  avg = 5.4`. MNN's benchmark: `[ - ] model.mnn  max = 8.1 ms  min = 7.9 ms  avg =
    8.0 ms`. LiteRT's benchmark_model: `count=50 first=.. curr=.. min=.. max=.. avg=8012.3 std=12` and `Inference timings in us:
    Init: .., First inference: .., Warmup (avg): .., Inference (avg): ..`. onnxruntime_perf_test: `Average inference time cost:
    5.2 ms` and `P50 Latency: 0.0051 s`.
    """
    match runtime:
        case "ncnn" | "mnn":
            average = _last(rf"\bavg\s*=\s*{NUMBER}", output)
            return None if average is None else {"samples_ms": [average]}
        case "litert":
            average = _last(rf"Inference \(avg\):\s*{NUMBER}", output) or _last(rf"\bavg={NUMBER}", output)
            if average is None:
                return None
            others = {"first_ms": rf"First inference:\s*{NUMBER}", "load_ms": rf"Init:\s*{NUMBER}"}
            figures = {name: _last(pattern, output) for name, pattern in others.items()}
            return {
                "samples_ms": [average / 1e3],
                **{name: value / 1e3 for name, value in figures.items() if value is not None},
            }
        case _:
            median = _last(rf"P50 Latency:\s*{NUMBER}\s*s", output)
            average = _last(rf"Average inference time cost:\s*{NUMBER}\s*ms", output)
            if median is not None:
                return {"samples_ms": [median * 1e3]}
            return None if average is None else {"samples_ms": [average]}


def _last(pattern: str, output: str) -> float | None:
    matches = re.findall(pattern, output)
    return float(matches[-1]) if matches else None


def _package(artifact: Path) -> PackageFile | None:
    return PackageFile.of(artifact) if artifact.is_dir() else None


def inputs_of(artifact: Path) -> dict[str, tuple[int, ...]]:
    """The input shapes that an .onnx file declares; what it leaves open is 1, as benchmark programs take it."""
    from edgec.onnx.proto import load_model

    graph = load_model(artifact, weights=False).graph
    return {
        v.name: tuple(d.dim_value or 1 for d in v.type.tensor_type.shape.dim)
        for v in graph.input
        if v.name not in {t.name for t in graph.initializer}
    }
