"""How far times of a machine can be trusted: was anything else at work?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgec.core.results.profile import DeviceEnvironment, Trust

BUSY_SHARE = 0.3  # of the cores that others keep at work
LOAD_SHARE = 1.25  # load average, as a multiple of the cores: what ran before the measurement counts too
PREEMPTED_PER_SECOND = 30.0  # involuntary context switches
WALL_CPU_BUSY = 1.1  # wall time by CPU time, with one thread
WALL_CPU_UNUSABLE = 2.0


@dataclass(frozen=True)
class Watched:
    """What a measuring process reports of how undisturbed it was. None: it does not say."""

    threads: int
    on_cpu: bool = True
    wall_cpu_ratio: float | None = None
    involuntary_switches: int | None = None
    measured_seconds: float = 0.0


def verdict_of(processes: Sequence[Watched], before: DeviceEnvironment) -> tuple[Trust, tuple[str, ...]]:
    """How far to trust the times, and why not.

    `before` is the device before the first of the processes; its load average is asked where the cores at work are not
    known. Ratios of interleaved processes survive a busy machine; times do not.
    """
    if not processes:
        return "unusable", ("nothing was measured",)
    reasons: list[str] = []
    single = [
        p.wall_cpu_ratio for p in processes if p.on_cpu and p.threads == 1 and p.wall_cpu_ratio is not None
    ]
    waiting = float(np.median(single)) if single else 1.0
    rates = [
        p.involuntary_switches / max(p.measured_seconds, 1e-3)
        for p in processes
        if p.involuntary_switches is not None
    ]
    rate = float(np.median(rates)) if rates else 0.0
    cores = before.cores
    if before.busy_cores is not None:
        if before.busy_cores > BUSY_SHARE * cores:
            reasons.append(f"{before.busy_cores:.1f} of {cores} cores at work before the measurement")
    elif before.load_average is not None and before.load_average > LOAD_SHARE * cores:
        reasons.append(f"load average {before.load_average:.1f} on {cores} cores before the measurement")
    if rate > PREEMPTED_PER_SECOND:
        reasons.append(f"{rate:.0f} involuntary context switches per second")
    if waiting > WALL_CPU_BUSY:
        reasons.append(f"wall time is {waiting:.2f} times the CPU time with one thread")
    if len(rates) < len(processes):
        reasons.append(
            "a benchmark program reports neither CPU time nor context switches, so nothing says that it ran alone"
        )
    if waiting > WALL_CPU_UNUSABLE:
        return "unusable", tuple(reasons)
    return ("busy: ratios only" if reasons else "quiet"), tuple(reasons)
