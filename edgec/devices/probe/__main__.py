"""Read one job from standard input, measure, print one JSON line.

Job, on one line: {"what": "latency" | "operators" | "serve", "runtime": "onnxruntime" | "openvino" | "ncnn" | "mnn" |
"null", "artifact": path (of an .onnx file, or of a package's folder),
"threads": n, "pin": bool, "shapes": {input: [sizes]}, "golden": .npz,
"warmup_seconds", "min_seconds", "max_seconds", "interval"}.
Answer: the figures, or {"error": {"kind", "message"}} with exit status 3. "serve" answers frames, see serve.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __package__:
    from edgec.devices.probe.measure import ProbeError, measure, pin
else:  # run as a folder, perhaps on a machine without edgec
    from measure import ProbeError, measure, pin  # pyright: ignore[reportMissingImports]

NULL_WORK_BYTES = 1 << 16


def main() -> int:
    job = json.loads(sys.stdin.buffer.readline())
    # What libraries print goes to standard error; answers have a channel of their own.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    pinned = pin(int(job["threads"])) if job.get("pin", True) else []
    # Only after pinning, so that thread pools made at import inherit it.
    if __package__:
        from edgec.devices.probe import onnx_session, packages, serve
    else:
        import onnx_session  # pyright: ignore[reportMissingImports]
        import packages  # pyright: ignore[reportMissingImports]
        import serve  # pyright: ignore[reportMissingImports]

    def tell(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    try:
        if job["what"] == "serve":
            run = packages.open_package(Path(job["artifact"]), job["runtime"], int(job["threads"]))[0]
            serve.serve(run, sys.stdin.buffer, answers)
            return 0
        answer = work(job, onnx_session, packages)
    except ProbeError as error:
        if job["what"] == "serve":
            serve.write_error(answers, error.kind, str(error))
        else:
            tell({"error": {"kind": error.kind, "message": str(error)}})
        return 3
    tell(answer | {"pinned": pinned, "python": platform.python_version()})
    return 0


def work(job: dict[str, Any], onnx_session: Any, packages: Any) -> dict[str, Any]:
    path, threads = Path(job["artifact"]), int(job["threads"])
    shapes = job.get("shapes", {})
    golden = Path(job["golden"]) if job.get("golden") else None
    if job["what"] == "operators":
        return onnx_session.operators(path, threads, shapes, float(job["max_seconds"]), golden)
    if job["runtime"] == "null":
        run, told = open_null(path)
    elif job["runtime"] != "onnxruntime":
        run_once, package, told = packages.open_package(path, job["runtime"], threads)
        feeds = packages.feeds_of(package, golden)
        told |= {"inputs": package["inputs"]}

        def run() -> Any:
            return run_once(feeds)

    else:
        run, told = onnx_session.open_onnxruntime(path, threads, shapes, golden)
    figures = measure(
        run,
        warmup_seconds=float(job["warmup_seconds"]),
        min_seconds=float(job["min_seconds"]),
        max_seconds=float(job["max_seconds"]),
        interval=float(job["interval"]),
    )
    return told | figures


def open_null(path: Path) -> tuple[Callable[[], Any], dict[str, Any]]:
    """A runtime that reads the file and then does the same small work each time: for tests of the harness."""
    began = time.perf_counter_ns()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ProbeError("artifact", f"{path}: {error.strerror}; check the path") from error
    block = (data * (NULL_WORK_BYTES // max(len(data), 1) + 1))[:NULL_WORK_BYTES] or bytes(NULL_WORK_BYTES)
    load = time.perf_counter_ns() - began
    return lambda: hashlib.sha256(block).digest(), {"load_ms": load / 1e6, "inputs": {}, "versions": {}}


if __name__ == "__main__":
    raise SystemExit(main())
