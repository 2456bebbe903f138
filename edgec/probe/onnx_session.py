"""An ONNX file opened in onnxruntime, with an input of the right shape, and its time per operator."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

if __package__:
    from edgec.probe.golden import OpenedArtifact, arrays_of
    from edgec.probe.measure import ProbeError
    from edgec.probe.operators import repeat, table
    from edgec.probe.session_options import session_options
else:  # run as a folder, perhaps on a machine without edgec
    from golden import OpenedArtifact, arrays_of
    from measure import ProbeError
    from operators import repeat, table
    from session_options import session_options

DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
# by what follows "onnxruntime-" in a runtime's name
PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "nnapi": "NnapiExecutionProvider",
    "qnn": "QNNExecutionProvider",
}
MAX_ELEMENTS = 2**30


def open_session(path: Path, threads: int, profile_prefix: str | None = None, provider: str = "") -> Any:
    """An onnxruntime session with the options of `session_options`.

    `provider` is a key of PROVIDERS, or "" for the CPU. Raises ProbeError, also where the provider does not take the file:
    onnxruntime would run it on the CPU without a word.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ProbeError(
            "missing", f"onnxruntime cannot be imported ({error}); pip install onnxruntime"
        ) from error
    if not path.is_file():
        raise ProbeError("artifact", f"{path}: not found; check the path")
    available = onnxruntime.get_available_providers()
    wanted = PROVIDERS[provider] if provider else "CPUExecutionProvider"
    if wanted not in available:
        raise ProbeError(
            "missing",
            f"this build of onnxruntime has no {wanted} (it has {', '.join(available)}); install a build with it",
        )
    options = session_options(threads)
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    order = list(dict.fromkeys((wanted, "CPUExecutionProvider")))
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=order)
    except Exception as error:  # onnxruntime has a class for each status, without a common public base
        raise ProbeError(
            "artifact", f"{path}: onnxruntime cannot open it ({_short(error)}); export it again"
        ) from error
    if session.get_providers()[0] != wanted:
        raise ProbeError(
            "missing",
            f"{path}: {wanted} cannot be used here, onnxruntime fell back to {session.get_providers()[0]}",
        )
    return session


def feeds_of(
    session: Any, shapes: Mapping[str, list[int]], golden: Path | None = None, seed: int = 0
) -> dict[str, Any]:
    """An input for every input of the graph: from the `golden` .npz where it fits, else drawn.

    Sizes that the file leaves open are those of the golden input, 1 without one, unless `shapes` says more. Drawn
    floats are uniform in 0..1, uint8 over its range, other integers and booleans are 1.
    """
    rng = np.random.default_rng(seed)
    known = arrays_of(golden)
    feeds: dict[str, Any] = {}
    unknown = set(shapes) - {node.name for node in session.get_inputs()}
    if unknown:
        there = ", ".join(f"{node.name} {list(node.shape)}" for node in session.get_inputs())
        raise ProbeError("input", f"the graph has no input {', '.join(sorted(unknown))}, only {there}")
    for node in session.get_inputs():
        if node.type not in DTYPES:
            raise ProbeError("input", f"input {node.name!r} has type {node.type}; only numbers are drawn")
        dtype = DTYPES[node.type]
        shape = shapes.get(node.name) or sizes_of(node.shape, known.get(node.name))
        if math.prod(shape) > MAX_ELEMENTS:
            raise ProbeError("input", f"input {node.name!r} {shape} is too large; export it smaller")
        if node.name in known and known[node.name].shape == tuple(shape) and known[node.name].dtype == dtype:
            feeds[node.name] = known[node.name]
        elif np.issubdtype(dtype, np.floating):
            feeds[node.name] = rng.random(shape, dtype=np.float32).astype(dtype)
        elif dtype is np.uint8:
            feeds[node.name] = rng.integers(0, 256, shape, dtype=np.uint8)
        else:
            feeds[node.name] = np.ones(shape, dtype)
    return feeds


def sizes_of(declared: list[Any], golden: Any | None) -> list[int]:
    """The sizes that a graph declares; those left open are the golden input's where it fits, else 1."""
    fixed = [side if isinstance(side, int) and side > 0 else None for side in declared]
    if golden is not None and golden.ndim == len(fixed):
        if all(side in (None, have) for side, have in zip(fixed, golden.shape)):
            return list(golden.shape)
    return [side or 1 for side in fixed]


def open_onnxruntime(
    path: Path,
    threads: int,
    shapes: Mapping[str, list[int]],
    golden: Path | None = None,
    batch: int = 1,
    provider: str = "",
) -> OpenedArtifact:
    """The file, ready to run on `batch` times its input. The first call explains its error."""
    began = time.perf_counter_ns()
    session = open_session(path, threads, provider=provider)
    load = time.perf_counter_ns() - began
    feeds = feeds_of(session, shapes, golden)
    if batch > 1:
        feeds = {name: np.repeat(value, batch, axis=0) for name, value in feeds.items()}
    import onnxruntime

    details = {
        "load_ms": load / 1e6,
        "inputs": {name: list(value.shape) for name, value in feeds.items()},
        "providers": session.get_providers(),
        "session": {"execution": "sequential", "intra_op": threads, "inter_op": 1, "spinning": True},
        "versions": {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__},
    }

    def run() -> Any:
        return session.run(None, feeds)

    def first() -> Any:
        try:
            return run()
        except Exception as error:
            raise _input_error(session, feeds, error) from error

    return OpenedArtifact(_first_guarded(first, run), feeds, [o.name for o in session.get_outputs()], details)


def _first_guarded(first: Callable[[], Any], later: Callable[[], Any]) -> Callable[[], Any]:
    """A call that explains its error the first time, and costs one comparison afterwards."""
    done = False

    def call() -> Any:
        nonlocal done
        if done:
            return later()
        done = True
        return first()

    return call


def _input_error(session: Any, feeds: Mapping[str, Any], error: Exception) -> ProbeError:
    given = ", ".join(f"{name} {list(value.shape)}" for name, value in feeds.items())
    open_sizes = [
        f"{node.name} {list(node.shape)}"
        for node in session.get_inputs()
        if any(not isinstance(side, int) for side in node.shape)
    ]
    declared = ", ".join(f"{node.name} {list(node.shape)}" for node in session.get_inputs())
    remedy = (
        f"the file leaves sizes open ({', '.join(open_sizes)}), taken as 1: export it with fixed sizes"
        if open_sizes
        else f"the graph takes {declared}: give such a shape, or export it again"
    )
    return ProbeError("input", f"it does not run on {given} ({_short(error)}); {remedy}")


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + "..."


def operators(
    path: Path, threads: int, shapes: Mapping[str, list[int]], seconds: float, golden: Path | None = None
) -> dict[str, Any]:
    """What `edgec.probe.operators.table` gives, for the optimized graph."""
    with tempfile.TemporaryDirectory(prefix="probe-") as folder:
        session = open_session(path, threads, str(Path(folder) / "trace"))
        feeds = feeds_of(session, shapes, golden)
        try:
            session.run(None, feeds)
        except Exception as error:
            raise _input_error(session, feeds, error) from error
        repeat(lambda: session.run(None, feeds), seconds)
        trace = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return summarise(trace)


def summarise(trace: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of `operators` from an onnxruntime trace: events of cat Node, microseconds."""
    times: dict[str, list[float]] = {}
    types: dict[str, str] = {}
    for event in trace:
        name = str(event.get("name", ""))
        if event.get("cat") != "Node" or not name.endswith("_kernel_time"):
            continue
        node = name.removesuffix("_kernel_time")
        times.setdefault(node, []).append(float(event["dur"]) / 1e3)
        types[node] = str(event.get("args", {}).get("op_name", "unknown"))
    return table(times, types)
