"""Golden files: inputs with the outputs that belong to them, and how far a runtime is from those."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

if __package__:
    from edgec.probe.measure import ProbeError
else:  # run as a folder or a zip file, perhaps on a machine without edgec
    from measure import ProbeError

EXACT_DB = 200.0


@dataclass(frozen=True)
class OpenedArtifact:
    """An artifact that is ready to be timed: `run` gives the outputs called `outputs` for `feeds`."""

    run: Callable[[], Sequence[Any]]
    feeds: Mapping[str, Any]
    outputs: Sequence[str]
    details: dict[str, Any]  # what is to be reported about opening it


def arrays_of(path: Path | None) -> dict[str, Any]:
    """The arrays of a golden file; none where the file is missing or unreadable."""
    if path is None or not path.is_file():
        return {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return {}


def distance(opened: OpenedArtifact, path: Path | None) -> dict[str, float]:
    """{"snr_db", "max_abs_error"} of the worst output against the golden file; nothing where its inputs were not what ran.

    Raises ProbeError when an output has another shape.
    """
    known = arrays_of(path)
    fits = all(n in known and np.array_equal(known[n], value) for n, value in opened.feeds.items())
    if not opened.feeds or not fits or not all(name in known for name in opened.outputs):
        return {}
    worst, largest = EXACT_DB, 0.0
    for name, reached in zip(opened.outputs, opened.run()):
        wanted, given = known[name].astype(np.float64), np.asarray(reached).astype(np.float64)
        if wanted.shape != given.shape:
            raise ProbeError(
                "artifact",
                f"output {name!r} has shape {list(given.shape)}, the golden one {list(wanted.shape)}",
            )
        noise, signal = float(np.square(wanted - given).sum()), float(np.square(wanted).sum())
        if noise != 0:  # also where it is not a number
            db = 10 * np.log10(max(signal, 1e-30) / noise) if np.isfinite(noise) else -EXACT_DB
            worst = min(worst, float(db))
        largest = max(largest, float(np.nan_to_num(np.abs(wanted - given), nan=np.inf).max(initial=0.0)))
    return {"snr_db": round(worst, 2), "max_abs_error": min(largest, 1e300)}
