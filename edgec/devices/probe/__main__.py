"""Read one job from standard input, measure, print one JSON line.

Job: {"what": "latency" | "operators", "runtime": "onnxruntime" | "null", "artifact": path,
"threads": n, "pin": bool, "shapes": {input: [sizes]}, "golden": .npz,
"warmup_seconds", "min_seconds", "max_seconds", "interval"}.
Answer: the figures, or {"error": {"kind", "message"}} with exit status 3.
"""

from __future__ import annotations

import hashlib
import json
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
    job = json.loads(sys.stdin.read())
    pinned = pin(int(job["threads"])) if job.get("pin", True) else []
    # Only after pinning, so that thread pools made at import inherit it.
    if __package__:
        from edgec.devices.probe import onnx_session
    else:
        import onnx_session  # pyright: ignore[reportMissingImports]

    try:
        answer = work(job, onnx_session)
    except ProbeError as error:
        print(json.dumps({"error": {"kind": error.kind, "message": str(error)}}), flush=True)
        return 3
    print(json.dumps(answer | {"pinned": pinned, "python": platform.python_version()}), flush=True)
    return 0


def work(job: dict[str, Any], onnx_session: Any) -> dict[str, Any]:
    path, threads = Path(job["artifact"]), int(job["threads"])
    shapes = job.get("shapes", {})
    golden = Path(job["golden"]) if job.get("golden") else None
    if job["what"] == "operators":
        return onnx_session.operators(path, threads, shapes, float(job["max_seconds"]), golden)
    if job["runtime"] == "null":
        run, told = open_null(path)
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
