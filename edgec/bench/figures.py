"""The figures of a case from the answers of its measuring processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from edgec.bench import statistics
from edgec.bench.candidate import Trial
from edgec.core.results.profile import Latency
from edgec.devices.probe_answer import LatencyAnswer

V = TypeVar("V", int, float)


def latency_from(trial: Trial, answers: Sequence[LatencyAnswer]) -> Latency:
    """The latency of a trial over at least one answer; None is what the device does not report."""
    samples = [answer.samples_ms for answer in answers]
    median, low, high = statistics.median_interval(samples)
    single = all(answer.averages for answer in answers)  # one figure per process: no percentiles of runs
    p5, p50, p90, p99 = (None,) * 4 if single else statistics.percentiles(samples)
    case = trial.case
    return Latency(
        artifact=case.artifact,
        runtime=case.runtime,
        threads=case.threads,
        batch=case.batch,
        precision=trial.candidate.precision,
        size=answers[0].sizes,
        median_ms=median,
        ci_low_ms=low,
        ci_high_ms=high,
        p5_ms=p5,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        first_ms=_median(a.first_ms for a in answers),
        load_ms=_median(a.load_ms for a in answers),
        min_cpu_ms=min(_known(a.min_cpu_ms for a in answers), default=None),
        peak_rss_bytes=max(_known(a.peak_rss_bytes for a in answers), default=None),
        wall_cpu_ratio=_median(a.wall_cpu_ratio for a in answers),
        involuntary_switches=_sum(a.involuntary_switches for a in answers),
        energy_mj=_median(a.energy_mj for a in answers),
        temperature_c=max(_known(a.temperature_c for a in answers), default=None),
        drift=_median(a.drift for a in answers),
        snr_db=min(_known(a.snr_db for a in answers), default=None),
        processes=len(answers),
        runs=sum(len(a.samples_ms) if a.runs is None else a.runs for a in answers),
        process_medians_ms=tuple(float(np.median(values)) for values in samples),
        samples_ms=tuple(statistics.thinned(samples)),
    )


def _known(values: Iterable[V | None]) -> list[V]:
    return [value for value in values if value is not None]


def _median(values: Iterable[float | None]) -> float | None:
    known = _known(values)
    return float(np.median(known)) if known else None


def _sum(values: Iterable[int | None]) -> int | None:
    known = _known(values)
    return sum(known) if known else None
