"""Latency of a network in torch, in a separate process: `python -m edgec.bench.torch_worker < job`.

Job and answer are those of `edgec.probe`, with "artifact" the folder of a network at rest, "shape"
that of the input, "device" cpu or cuda, "mode" eager, compiled or cuda_graph, "precision", "layout", and "allow_code".
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgec.probe.measure import measure, pin


def main() -> int:
    job = json.loads(sys.stdin.read())
    pinned = pin(int(job["threads"])) if job.get("pin", True) else []
    from edgec.core.errors import EdgecError, Missing

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

    from edgec.core.errors import Missing, NetworkError
    from edgec.core.network import Network

    device, threads, mode = str(job["device"]), int(job["threads"]), str(job.get("mode", "eager"))
    if device == "cuda" and not torch.cuda.is_available():
        raise Missing("cuda is not available to torch; use --device cpu, or install a CUDA build of torch")
    torch.set_num_threads(threads)
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[
        job.get("precision", "fp32")
    ]
    layout = torch.channels_last if job.get("layout") == "channels_last" else torch.contiguous_format
    began = time.perf_counter_ns()
    network = Network.load(Path(job["artifact"]), bool(job.get("allow_code")))
    module: Any = network.build().to(device, dtype)  # torch has no type for what its compiler gives
    module = module.to(memory_format=layout)
    load = time.perf_counter_ns() - began
    shape = [int(job.get("batch", 1)), *job["shape"][1:]]
    image = torch.rand(*shape, device=device, dtype=dtype).to(memory_format=layout)
    if mode == "compiled":
        module = torch.compile(module)  # pyright: ignore[reportUnknownMemberType]

    @torch.inference_mode()
    def eager() -> None:
        module(image)
        if device == "cuda":
            torch.cuda.synchronize()

    try:
        run = captured(module, image) if mode == "cuda_graph" else eager
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


def captured(module: Any, image: Any) -> Callable[[], None]:
    """Replays the module's kernels as one CUDA graph, recorded after a warm-up on a separate stream."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(stream):
        for _ in range(3):
            module(image)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        module(image)

    def run() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return run


if __name__ == "__main__":
    raise SystemExit(main())
