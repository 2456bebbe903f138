"""What other runtimes than onnxruntime need beside their files: `package.json`, and one way to open them.

package.json: {"runtime", "file", "inputs": {name: shape}, "outputs": [names], "precision"}; shapes are those of the golden
input. Opening gives a call that takes a dict of arrays and gives the outputs in the order of "outputs". A runtime that
is not of OPENERS is opened by the function that the job names, `module:function`, which must be installed where it runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

if __package__:
    from edgec.probe import (
        executorch_session,
        litert_session,
        mnn_session,
        ncnn_session,
        openvino_session,
    )
    from edgec.probe.golden import OpenedArtifact, arrays_of
    from edgec.probe.measure import ProbeError
else:  # run as a folder, perhaps on a machine without edgec
    import executorch_session
    import litert_session
    import mnn_session
    import ncnn_session
    import openvino_session
    from golden import OpenedArtifact, arrays_of
    from measure import ProbeError

Run = Callable[[Mapping[str, Any]], list[Any]]
Opener = Callable[
    [Path, int, Mapping[str, Any]], "tuple[Run, str]"
]  # (file, threads, package.json) -> run, version
OPENERS: Mapping[str, Opener] = {
    "openvino": openvino_session.open_model,
    "ncnn": ncnn_session.open_model,
    "mnn": mnn_session.open_model,
    "litert": litert_session.open_model,
    "executorch": executorch_session.open_model,
}

OPERATORS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "openvino": openvino_session.operators,
    "mnn": mnn_session.operators,
}
NAMES = {"litert": "ai-edge-litert"}  # on PyPI, where it is another


def read_package(folder: Path) -> dict[str, Any]:
    """The folder's package.json. Raises ProbeError when it is not a package, or one of its files is missing."""
    try:
        package: dict[str, Any] = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        file = folder / package["file"]
    except (OSError, ValueError, KeyError) as error:
        raise ProbeError("artifact", f"{folder}: holds no package ({error}); convert it again") from error
    if not file.is_file():
        raise ProbeError("artifact", f"{file}: not found; convert it again")
    return package


def opener_of(runtime: str, named: str = "") -> Opener:
    """How a runtime opens its files. Raises ProbeError for an unknown one, ImportError where `named` is not installed."""
    if not named:
        if runtime not in OPENERS:
            raise ProbeError("artifact", f"runtime {runtime!r} is unknown; choose from {', '.join(OPENERS)}")
        return OPENERS[runtime]
    module, _, function = named.partition(":")
    opener: Opener = getattr(import_module(module), function)
    return opener


def open_package(
    folder: Path, runtime: str, threads: int, opener: str = ""
) -> tuple[Run, dict[str, Any], dict[str, Any]]:
    """(call, package.json, what loading took and the versions)."""
    package = read_package(folder)
    began = time.perf_counter_ns()
    try:
        run, version = opener_of(runtime, opener)(folder / package["file"], threads, package)
    except ImportError as error:
        if opener:
            remedy = f"install the package of {opener} where it runs"
            raise ProbeError("missing", f"{runtime} cannot be imported ({error}); {remedy}") from error
        alone = f"on a board without edgec: pip install {NAMES.get(runtime, runtime)}"
        raise ProbeError(
            "missing", f"{runtime} cannot be imported ({error}); pip install 'edgec[{runtime}]', {alone}"
        ) from error
    load = time.perf_counter_ns() - began
    details = {"load_ms": load / 1e6, "versions": {runtime: version, "numpy": np.__version__}}
    return run, package, details


def feeds_of(package: Mapping[str, Any], golden: Path | None, seed: int = 0) -> dict[str, Any]:
    """The golden input, or numbers drawn uniformly from 0..1 where there is none."""
    known = arrays_of(golden)
    rng = np.random.default_rng(seed)
    feeds: dict[str, Any] = {}
    for name, shape in package["inputs"].items():
        given = known.get(name)
        fits = given is not None and list(given.shape) == list(shape)
        feeds[name] = given if fits else rng.random(shape, dtype=np.float32)
    return feeds


def open_for_timing(
    folder: Path, runtime: str, threads: int, golden: Path | None, opener: str = ""
) -> OpenedArtifact:
    """The package, ready to run on its golden input."""
    run, package, details = open_package(folder, runtime, threads, opener)
    feeds = feeds_of(package, golden)
    return OpenedArtifact(
        lambda: run(feeds), feeds, package["outputs"], details | {"inputs": package["inputs"]}
    )


def operators(
    folder: Path, runtime: str, threads: int, seconds: float, golden: Path | None
) -> dict[str, Any]:
    """What `edgec.probe.operators.table` gives, in the runtimes that tell."""
    package = read_package(folder)
    if runtime not in OPERATORS:
        raise ProbeError("artifact", f"{runtime} does not report times by operator")
    times: dict[str, Any] = OPERATORS[runtime](
        folder / package["file"], threads, package, feeds_of(package, golden), seconds
    )
    return times
