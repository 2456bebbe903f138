"""From samples of several fresh processes to one figure with an interval, and how far to trust it.

The figure of a cell is the median of the medians of its processes. Intervals are bootstrapped on two levels,
processes and the samples inside each, and widened where the processes are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Samples = Sequence[Sequence[float]]  # milliseconds, [process][run]

RESAMPLES = 2000
KEPT_SAMPLES = 200

# The bootstrap of n < 6 medians spans no more than their range, which covers the true value too rarely: 75 %
# of the time for 3. These factors give the 95 % interval of the range test for normal values (E. Lord,
# Biometrika 34, 1947, table of u: 6.353, 1.304, 0.717, 0.507), as multiples of half the range. One process
# says nothing about the spread between processes, so its interval is that of its samples.
SMALL_SAMPLE = {2: 12.7, 3: 2.61, 4: 1.43, 5: 1.02}


def median_interval(processes: Samples, seed: int = 0) -> tuple[float, float, float]:
    """(median, low, high): the median of process medians with its 95 % interval."""
    logs = _bootstrap_logs([_ranked_logs(samples) for samples in processes], seed)
    return _summary(np.array([float(np.median(_positive(s))) for s in processes]), logs)


def ratio_interval(slow: Samples, quick: Samples, seed: int = 0) -> tuple[float, float, float]:
    """(ratio, low, high) of `slow` / `quick`, paired by round: above 1 where `quick` takes less time."""
    if len(slow) != len(quick) or not slow:
        raise ValueError(f"rounds do not pair: {len(slow)} and {len(quick)}")
    rng = np.random.default_rng(seed)
    count = len(slow)
    rounds = np.array(
        [np.median(_positive(a)) / np.median(_positive(b)) for a, b in zip(slow, quick, strict=True)]
    )
    differences = np.stack(
        [
            _resampled_medians(_ranked_logs(a), rng) - _resampled_medians(_ranked_logs(b), rng)
            for a, b in zip(slow, quick, strict=True)
        ]
    )  # [round, resample]
    return _summary(rounds, _choose_processes(differences, count, rng))


def _positive(samples: Sequence[float]) -> Array:
    return np.maximum(np.asarray(samples, dtype=np.float64), 1e-9)


def _ranked_logs(samples: Sequence[float]) -> Array:
    return np.log(np.sort(_positive(samples)))


def _resampled_medians(ranked: Array, rng: np.random.Generator) -> Array:
    """Medians of RESAMPLES bootstrap resamples of sorted values.

    The median of n draws with replacement is the value at floor(n U), U the median of n uniforms, which is
    Beta((n+1)/2, (n+1)/2) distributed: no resample has to be made.
    """
    shape = (len(ranked) + 1) / 2
    return ranked[np.minimum((rng.beta(shape, shape, RESAMPLES) * len(ranked)).astype(int), len(ranked) - 1)]


def _bootstrap_logs(ranked: Sequence[Array], seed: int) -> Array:
    if not ranked:
        raise ValueError("no process was measured")
    rng = np.random.default_rng(seed)
    return _choose_processes(np.stack([_resampled_medians(r, rng) for r in ranked]), len(ranked), rng)


def _choose_processes(medians: Array, count: int, rng: np.random.Generator) -> Array:
    """Medians over `count` processes drawn with replacement. `medians` is [process, resample]."""
    drawn = rng.integers(0, count, (count, RESAMPLES))
    return np.median(np.take_along_axis(medians, drawn, axis=0), axis=0)


def _summary(by_process: Array, logs: Array) -> tuple[float, float, float]:
    middle = float(np.median(by_process))
    centre = np.log(middle)
    factor = SMALL_SAMPLE.get(len(by_process), 1.0)
    low, high = np.percentile(logs, [2.5, 97.5])
    low, high = min(low, centre), max(high, centre)
    # Both sides get the wider reach when processes are few: the median may sit at an end of its range.
    if factor > 1:
        reach = factor * (high - low) / 2
        low, high = centre - reach, centre + reach
    # the logarithm and back may round past the median itself
    return middle, min(float(np.exp(low)), middle), max(float(np.exp(high)), middle)


def percentiles(processes: Samples) -> tuple[float, float, float, float]:
    """p5, p50, p90 and p99 over the samples of all processes."""
    pooled = np.concatenate([np.asarray(samples, dtype=np.float64) for samples in processes])
    p5, p50, p90, p99 = np.percentile(pooled, [5, 50, 90, 99])
    return float(p5), float(p50), float(p90), float(p99)


def thinned(processes: Samples, limit: int = KEPT_SAMPLES) -> list[float]:
    """At most `limit` of the samples, evenly spaced in the order of measuring."""
    pooled = [float(value) for samples in processes for value in samples]
    if len(pooled) <= limit:
        return pooled
    return [pooled[int(index)] for index in np.linspace(0, len(pooled) - 1, limit)]
