"""Read one job from standard input, do it, print one JSON line.

Job, on one line: {"what": "latency" | "operators" | "serve", "runtime": "onnxruntime" | "onnxruntime-" and a provider |
one of packages.OPENERS | "null", "opener": "module:function" (of a runtime that OPENERS does not know), "artifact": path
(of an .onnx file, or of a package's folder), "threads": n, "batch": n, "pin": bool, "shapes": {input: [sizes]}, "golden":
.npz, "limit_s" (then the process ends itself), "warmup_seconds", "min_seconds", "max_seconds", "interval"}.
Answer: the figures, or {"error": {"kind", "message"}} with exit status 3. "serve" answers frames, see serve.py.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import platform
import signal
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

if __package__:
    from edgec.probe.measure import ProbeError, measure, pin
else:  # run as a folder or a zip file, perhaps on a machine without edgec
    from measure import ProbeError, measure, pin

LEAST_PYTHON = (3, 9)
NULL_WORK_BYTES = 1 << 16


def main() -> int:
    job = json.loads(sys.stdin.buffer.readline())
    if job.get("limit_s"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends a runtime that hangs in its own code, too
        signal.alarm(int(job["limit_s"]) + 1)
    # What libraries print goes to standard error; answers have a channel of their own.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def tell(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    try:
        if sys.version_info < LEAST_PYTHON:
            least = ".".join(map(str, LEAST_PYTHON))
            raise ProbeError(
                "missing", f"Python is {platform.python_version()}; install {least} or newer there"
            )
        pinned = pin(int(job["threads"])) if job.get("pin", True) else []
        return act(job, pinned, answers, tell)
    except ProbeError as error:
        tell({"error": {"kind": error.kind, "message": str(error)}})
        return 3


def act(job: dict[str, Any], pinned: list[int], answers: BinaryIO, tell: Any) -> int:
    """A job that needs a runtime. Imported only after pinning, so that thread pools made at import inherit it."""
    try:
        importlib.import_module("numpy")
    except ImportError as error:
        raise ProbeError(
            "missing", f"numpy cannot be imported ({error}); {sys.executable} -m pip install numpy"
        ) from error
    if __package__:
        from edgec.probe import golden, onnx_session, packages, serve
    else:
        import golden
        import onnx_session
        import packages
        import serve

    if job["what"] == "serve":
        try:
            opener = str(job.get("opener", ""))
            run = packages.open_package(Path(job["artifact"]), job["runtime"], int(job["threads"]), opener)[0]
        except ProbeError as error:
            serve.write_error(answers, error.kind, str(error))
            return 3
        serve.serve(run, sys.stdin.buffer, answers)
        return 0
    answer = work(job, golden, onnx_session, packages)
    tell(answer | {"pinned": pinned, "python": platform.python_version()})
    return 0


def work(job: dict[str, Any], golden: Any, onnx_session: Any, packages: Any) -> dict[str, Any]:
    path, threads, batch = Path(job["artifact"]), int(job["threads"]), int(job.get("batch", 1))
    shapes = job.get("shapes", {})
    beside = Path(job["golden"]) if job.get("golden") else None
    if job["what"] == "operators":
        seconds = float(job["max_seconds"])
        if job["runtime"] == "onnxruntime":
            return onnx_session.operators(path, threads, shapes, seconds, beside)
        return packages.operators(path, job["runtime"], threads, seconds, beside)
    if job["runtime"] == "null":
        opened = open_null(path, golden)
    elif job["runtime"].startswith("onnxruntime"):
        provider = job["runtime"].partition("-")[2]
        opened = onnx_session.open_onnxruntime(path, threads, shapes, beside, batch, provider)
    else:
        opened = packages.open_for_timing(path, job["runtime"], threads, beside, str(job.get("opener", "")))
    figures = measure(
        opened.run,
        warmup_seconds=float(job["warmup_seconds"]),
        min_seconds=float(job["min_seconds"]),
        max_seconds=float(job["max_seconds"]),
        interval=float(job["interval"]),
    )
    return {**opened.details, **figures, **golden.distance(opened, beside)}


def open_null(path: Path, golden: Any) -> Any:
    """A runtime that reads the file and then does the same small work each time: for tests of the harness."""
    began = time.perf_counter_ns()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ProbeError("artifact", f"{path}: {error.strerror}; check the path") from error
    block = (data * (NULL_WORK_BYTES // max(len(data), 1) + 1))[:NULL_WORK_BYTES] or bytes(NULL_WORK_BYTES)
    load = time.perf_counter_ns() - began
    details: dict[str, Any] = {"load_ms": load / 1e6, "inputs": {}, "versions": {}}
    return golden.OpenedArtifact(lambda: [hashlib.sha256(block).digest()], {}, [], details)


if __name__ == "__main__":
    raise SystemExit(main())
