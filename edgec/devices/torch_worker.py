"""Latency of a network in eager torch, in a process of its own: `python -m edgec.devices.torch_worker < job`.

Job and answer are those of `edgec.devices.probe`, with "artifact" the folder of a network at rest, "shape"
that of the input, "device" cpu or cuda, and "allow_code".
"""

from __future__ import annotations

import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

from edgec.devices.probe.measure import measure, pin


def main() -> int:
    job = json.loads(sys.stdin.read())
    pinned = pin(int(job["threads"])) if job.get("pin", True) else []
    from edgec.errors import EdgecError, Missing

    try:
        answer = work(job)
    except EdgecError as error:
        kind = "missing" if isinstance(error, Missing) else "artifact"
        print(json.dumps({"error": {"kind": kind, "message": str(error)}}), flush=True)
        return 3
    print(json.dumps(answer | {"pinned": pinned, "python": platform.python_version()}), flush=True)
    return 0


def work(job: dict[str, Any]) -> dict[str, Any]:
    import torch

    from edgec.errors import Missing, NetworkError
    from edgec.network import Network

    device, threads = str(job["device"]), int(job["threads"])
    if device == "cuda" and not torch.cuda.is_available():
        raise Missing("cuda is not available to torch; use --device cpu, or install a CUDA build of torch")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    began = time.perf_counter_ns()
    module = Network.load(Path(job["artifact"]), bool(job.get("allow_code"))).build().to(device)
    load = time.perf_counter_ns() - began
    shape = [int(job.get("batch", 1)), *job["shape"][1:]]
    image = torch.rand(*shape, device=device)

    @torch.inference_mode()
    def run() -> None:
        module(image)
        if device == "cuda":
            torch.cuda.synchronize()

    try:
        figures = measure(
            run,
            warmup_seconds=float(job["warmup_seconds"]),
            min_seconds=float(job["min_seconds"]),
            max_seconds=float(job["max_seconds"]),
            interval=float(job["interval"]),
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise NetworkError(f"it does not run on {shape} ({reason})") from error
    versions = {"torch": str(torch.__version__)}
    if device == "cuda":
        figures["peak_device_bytes"] = torch.cuda.max_memory_allocated()
        versions["cuda"] = str(torch.version.cuda)
        versions["gpu"] = torch.cuda.get_device_name()
    return {"load_ms": load / 1e6, "inputs": {"images": shape}, "versions": versions} | figures


if __name__ == "__main__":
    raise SystemExit(main())
