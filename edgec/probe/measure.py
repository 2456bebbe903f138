"""The one timing loop that all runtimes share. Imports the standard library only."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # not on this system: what it reports stays unknown
    resource = None

if __package__:
    from edgec.probe.describe import energy_uj, temperature_c, text_of
else:  # run as a folder or a zip file, perhaps on a machine without edgec
    from describe import energy_uj, temperature_c, text_of

CHECK_SECONDS = 0.1  # between looks at the interval, so that sorting does not sit between two runs
MIN_RUNS = 3
STABLE = 0.05  # warm when the later half of the last runs is within this share of the earlier half
WARMUP_FACTOR = 5  # a process that never settles is measured after this many times the asked warm-up


class ProbeError(Exception):
    """Nothing can be measured. `kind` is missing, artifact or input; the message names the remedy."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def pin(threads: int) -> list[int]:
    """Keep this process on the `threads` fastest CPUs that it may use, the first of equals; [] where the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    chosen = sorted(os.sched_getaffinity(0), key=lambda core: (-fastest_khz(core), core))[:threads]
    os.sched_setaffinity(0, chosen)
    return chosen


def fastest_khz(core: int) -> int:
    """The highest clock of a CPU: boards mix large and small ones. 0 where the system does not tell."""
    try:
        return int(text_of(f"/sys/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq"))
    except ValueError:
        return 0


def median_of(sorted_values: list[int]) -> float:
    middle = len(sorted_values) // 2
    if len(sorted_values) % 2:
        return float(sorted_values[middle])
    return (sorted_values[middle - 1] + sorted_values[middle]) / 2


def interval_width(values: list[int]) -> float:
    """Width of the 95 % interval of the median, as a share of it, from the order statistics (sign test)."""
    ranked = sorted(values)
    count = len(ranked)
    reach = 0.98 * count**0.5  # 1.96 standard deviations of Binomial(count, 1/2)
    low = max(0, int(count / 2 - reach))
    high = min(count - 1, int(count / 2 + reach))
    return (ranked[high] - ranked[low]) / max(median_of(ranked), 1.0)


def measure(
    run: Callable[[], Any], *, warmup_seconds: float, min_seconds: float, max_seconds: float, interval: float
) -> dict[str, Any]:
    """Time `run` until the median is known within `interval` (share), at least `min_seconds`.

    The first call counts as the first run; the warm-up continues until two halves of it agree. Times are wall
    milliseconds of single calls; CPU time is that of the whole process, spinning threads included.
    """
    began = time.perf_counter_ns()
    run()
    first = time.perf_counter_ns() - began
    warmups = warm_up(run, warmup_seconds)
    wall: list[int] = []
    cpu: list[int] = []
    switches = involuntary_switches()
    energy = energy_uj()
    start = look = time.perf_counter_ns()
    while True:
        cpu_before = time.process_time_ns()
        before = time.perf_counter_ns()
        run()
        now = time.perf_counter_ns()
        cpu.append(time.process_time_ns() - cpu_before)
        wall.append(now - before)
        elapsed = (now - start) / 1e9
        if len(wall) < MIN_RUNS:
            continue
        if elapsed >= max_seconds:
            break
        if elapsed >= min_seconds and (now - look) / 1e9 >= CHECK_SECONDS:
            if interval_width(wall) <= interval:
                break
            look = time.perf_counter_ns()
    measured_seconds = (time.perf_counter_ns() - start) / 1e9
    energy_after = energy_uj()
    quarter = max(1, len(wall) // 4)
    return {
        "samples_ms": [round(value / 1e6, 6) for value in wall],
        "first_ms": first / 1e6,
        "warmup_runs": warmups,
        "min_cpu_ms": min(cpu) / 1e6,
        "wall_cpu_ratio": sum(wall) / max(sum(cpu), 1),
        "involuntary_switches": _since(switches),
        "measured_seconds": measured_seconds,
        "drift": median_of(sorted(wall[-quarter:])) / max(median_of(sorted(wall[:quarter])), 1.0),
        "peak_rss_bytes": peak_rss_bytes(),
        "energy_mj": _millijoules(energy, energy_after, len(wall)),
        "temperature_c": temperature_c(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def _millijoules(before: int | None, after: int | None, runs: int) -> float | None:
    """Energy of the whole processor package a run; None where the system does not tell, or its counter began anew."""
    if before is None or after is None or after < before:
        return None
    return (after - before) / 1e3 / runs


def warm_up(run: Callable[[], Any], seconds: float) -> int:
    """Run until `seconds` are over and the last runs have settled. Gives the number of runs."""
    if seconds <= 0:
        return 0
    start = time.perf_counter_ns()
    times: list[int] = []
    while True:
        before = time.perf_counter_ns()
        run()
        now = time.perf_counter_ns()
        times.append(now - before)
        elapsed = (now - start) / 1e9
        if elapsed >= WARMUP_FACTOR * seconds:
            return len(times)
        if elapsed >= seconds and (len(times) < 8 or _settled(times[-min(len(times), 64) :])):
            return len(times)


def _settled(times: list[int]) -> bool:
    half = len(times) // 2
    return median_of(sorted(times[half:])) >= (1 - STABLE) * median_of(sorted(times[:half]))


def _since(before: int | None) -> int | None:
    now = involuntary_switches()
    return None if before is None or now is None else now - before


def involuntary_switches() -> int | None:
    """How often this program had to leave its CPU to others; None where the system does not report it."""
    return None if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def peak_rss_bytes() -> int | None:
    """Peak resident memory of this program; None where the system does not report it.

    From /proc, for `ru_maxrss` of a fresh program on Linux begins at the size of the process that started it.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
