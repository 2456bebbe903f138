"""Where the time of one run goes, by operator."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

LEAST_RUNS, MOST_RUNS = 4, 200

Times = Mapping[str, Sequence[float]]  # milliseconds of every run, by operator
Types = Mapping[str, str]


def table(times: Times, types: Types) -> dict[str, Any]:
    """Medians: {"operators": [{"name", "type", "ms", "share"}], dearest first, "types": {type: ms}, "total_ms": ms}."""
    medians = {name: float(np.median(values)) for name, values in times.items()}
    total = sum(medians.values())
    by_type: dict[str, float] = {}
    for name, value in medians.items():
        by_type[types[name]] = by_type.get(types[name], 0.0) + value
    rows = [
        {"name": name, "type": types[name], "ms": round(value, 6), "share": value / total if total else 0.0}
        for name, value in sorted(medians.items(), key=lambda item: -item[1])
    ]
    return {
        "operators": rows,
        "types": {
            name: round(value, 6) for name, value in sorted(by_type.items(), key=lambda item: -item[1])
        },
        "total_ms": total,
    }


def repeat(run: Callable[[], Any], seconds: float) -> None:
    """Run for about so long, at least 3 and at most 199 times."""
    start = time.perf_counter()
    runs = 1
    while (time.perf_counter() - start < seconds and runs < MOST_RUNS) or runs < LEAST_RUNS:
        run()
        runs += 1
