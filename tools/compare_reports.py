"""What differs between the reports of two runs of one recipe, but for times: `python tools/compare_reports.py BEFORE AFTER`.

BEFORE and AFTER are report.json files, or folders of runs. Keys that only AFTER has are additions, not differences. Exits
with 1 where there are differences.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# Times, and what depends on them or on the machine.
TIMED = {
    "date", "seconds", "command", "environment", "images_per_second", "train_seconds", "verdict", "reasons", "slower", "notes",
    "runs", "process_medians_ms", "samples_ms", "drift", "peak_rss_bytes", "wall_cpu_ratio", "involuntary_switches",
    "energy_mj", "temperature_c", "ratio", "ci_low", "ci_high", "share", "ms", "cached", "version",
}  # fmt: skip
TIMED_PROMISES = ("speed", "latency")
TIMED_FLAGS = ("slows ",)
# What rows of lists are known by; rows without any of them by their place.
IDENTITY = ("promise", "epoch", "stage", "name", "layer", "node", "tensor", "artifact", "runtime", "threads", "batch", "against",
            "type", "device", "message")  # fmt: skip


def differences(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """What `before` has and `after` has otherwise or not at all, a line each."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _of_objects(before, after, place)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _of_lists(before, after, place)
    elif before != after or isinstance(before, bool) is not isinstance(after, bool):
        yield f"{place or 'the report'}: {_short(before)}, now {_short(after)}"


def _of_objects(before: Mapping[str, Any], after: Mapping[str, Any], place: str) -> Iterator[str]:
    timed = str(before.get("promise", "")).startswith(TIMED_PROMISES)
    for key, value in before.items():
        at = f"{place}.{key}" if place else key
        if key in TIMED or key.endswith("_ms") or (timed and key in ("measured", "kept", "remedy")):
            continue
        if at == "kept" and _has_timed_gates(before):
            continue
        if key not in after:
            yield f"{at}: {_short(value)}, now missing"
        else:
            one, other = (_types_alone(v) if key == "operator_types" else v for v in (value, after[key]))
            yield from differences(one, other, at)


def _types_alone(by_artifact: Mapping[str, Mapping[str, float]]) -> dict[str, list[str]]:
    """Which types of operators each artifact runs, without the times."""
    return {artifact: sorted(types) for artifact, types in by_artifact.items()}


def _has_timed_gates(report: Mapping[str, Any]) -> bool:
    return any(str(gate.get("promise", "")).startswith(TIMED_PROMISES) for gate in report.get("gates", ()))


def _of_lists(before: Sequence[Any], after: Sequence[Any], place: str) -> Iterator[str]:
    if place.endswith("flags"):
        before, after = (
            [flag for flag in flags if not flag.startswith(TIMED_FLAGS)] for flags in (before, after)
        )
    known, now = _named(before), _named(after)
    for name, row in known.items():
        if name not in now:
            yield f"{place}[{name}]: {_short(row)}, now missing"
        else:
            yield from differences(row, now[name], f"{place}[{name}]")
    if len(after) > len(before) and not all(isinstance(row, Mapping) for row in after):
        yield f"{place}: {len(before)} entries, now {len(after)}"  # numbers: not an addition but another list


def _named(rows: Sequence[Any]) -> dict[str, Any]:
    """The rows by what they are known by, with a number where several share it."""
    named: dict[str, Any] = {}
    for index, row in enumerate(rows):
        parts = [str(row[key]) for key in IDENTITY if key in row and not isinstance(row[key], list | dict)] if isinstance(
            row, Mapping
        ) else []  # fmt: skip
        name = " ".join(parts) or str(index)
        count = 1
        while (unique := name if count == 1 else f"{name} #{count}") in named:
            count += 1
        named[unique] = row
    return named


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."


def read(path: Path) -> Any:
    return json.loads((path / "report.json" if path.is_dir() else path).read_text(encoding="utf-8"))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    given = parser.parse_args()
    found = list(differences(read(given.before), read(given.after)))
    for line in found:
        print(line)
    print(f"{len(found)} differences", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
