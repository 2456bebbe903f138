"""The latency of artifacts outside a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgec.bench.files import profile_artifacts
from edgec.core.errors import Problem, RecipeError
from edgec.core.events import Events, Listener
from edgec.core.results.profile import ProfileResult
from edgec.core.runtimes import RUNTIMES
from edgec.recipe import Profile
from edgec.run.subjects import artifacts_of


def profile(
    artifacts: str | Path | Sequence[str | Path],
    *,
    threads: Sequence[int] = (),
    runtimes: Sequence[str] = ("onnxruntime",),
    against: str | Path | None = None,
    devices: Sequence[str] = ("local",),
    batches: Sequence[int] = (1,),
    shapes: Mapping[str, Sequence[int]] | None = None,
    config: Profile | None = None,
    listeners: Sequence[Listener] = (),
) -> ProfileResult:
    """Latency figures of .onnx files (any, also ones that edgec did not make), measured side by side.

    `runtimes` other than onnxruntime get files of their own, which are checked against onnxruntime's outputs first.
    Sizes that a file leaves open are those of its golden input, or of `shapes` (by input), or 1. Ratios are to `against` where
    it is given, else to the dense artifact, else to the first. `devices`: see `edgec.devices.inventory`; figures of the second
    and later ones are `others`. What could not be measured is in `failures`; Missing or StageError is raised when that is
    everything.
    """
    given = [artifacts] if isinstance(artifacts, str | Path) else list(artifacts)
    given = given if against is None else [against, *given]
    missing = [Problem(str(p), "does not exist", "check the path") for p in given if not Path(p).exists()]
    if missing:
        raise RecipeError(missing)
    paths = [path for item in given for path in artifacts_of(Path(item))]
    known = [row.name for row in RUNTIMES.rows() if not row.takes_networks]
    remedy = f"choose from {', '.join(known)}"
    unknown = [Problem("--runtimes", repr(r), remedy) for r in runtimes if r not in known]
    if not runtimes:
        unknown.append(Problem("--runtimes", "names none", remedy))
    if unknown:
        raise RecipeError(unknown)
    chosen = config or Profile(
        threads=tuple(threads),
        runtimes=tuple(runtimes),
        devices=tuple(devices) or ("local",),
        batches=tuple(batches),
    )
    base = None if against is None else artifacts_of(Path(against))[0]
    return profile_artifacts(paths, chosen, Events(listeners=tuple(listeners)), shapes, base)
