"""Intervals that cover, verdicts that notice a busy machine."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.bench import statistics
from edgec.probe import describe


def rounds(rng: np.random.Generator, count: int, middle: float = 10.0, drift: float = 0.03, runs: int = 60):
    """Samples of fresh processes: each has its own level (`drift`), and skewed noise around it."""
    return [
        list(middle * np.exp(drift * rng.standard_normal()) * (1 + rng.exponential(0.02, runs)))
        for _ in range(count)
    ]


@pytest.mark.parametrize("processes", [3, 5, 8])
def test_an_aa_comparison_contains_1_about_95_percent_of_the_time(processes: int) -> None:
    rng = np.random.default_rng(processes)
    hits = 0
    for trial in range(200):
        _, low, high = statistics.ratio_interval(rounds(rng, processes), rounds(rng, processes), seed=trial)
        hits += low <= 1 <= high
    assert 0.90 * 200 <= hits


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(0)
    ratio, low, high = statistics.ratio_interval(rounds(rng, 5, 20.0, 0.01), rounds(rng, 5, 10.0, 0.01))
    assert low < 2.0 < high
    assert low > 1.8
    assert ratio == pytest.approx(2.0, rel=0.04)


def test_pairing_removes_a_drift_that_both_share() -> None:
    """The machine doubles its time from round to round; the ratio of interleaved rounds does not move."""
    rng = np.random.default_rng(1)
    levels = [10.0, 20.0, 40.0, 80.0, 160.0]
    slow = [list(1.5 * level * (1 + 0.01 * rng.random(50))) for level in levels]
    quick = [list(level * (1 + 0.01 * rng.random(50))) for level in levels]
    ratio, low, high = statistics.ratio_interval(slow, quick)
    assert 1.48 < low <= ratio <= high < 1.52
    _, low_ms, high_ms = statistics.median_interval(quick)
    assert high_ms > 4 * low_ms


def test_the_median_of_process_medians_resists_one_bad_process() -> None:
    median, low, high = statistics.median_interval([[10.0] * 9, [10.2] * 9, [99.0] * 900])
    assert median == 10.2
    assert low < 10.0
    assert high > 99.0  # three processes of which one is far off tell little


def test_fewer_processes_give_wider_intervals_and_seeds_repeat() -> None:
    rng = np.random.default_rng(2)
    samples = rounds(rng, 3)
    many = statistics.median_interval(samples * 4)
    few = statistics.median_interval(samples)
    assert few[2] - few[1] > 2 * (many[2] - many[1])
    assert statistics.median_interval(samples) == few


def test_one_process_has_the_interval_of_its_samples() -> None:
    values = list(np.random.default_rng(3).normal(10, 1, 400))
    median, low, high = statistics.median_interval([values])
    assert low < median < high
    assert high - low == pytest.approx(2 * 1.96 * 1.2533 / 20, rel=0.3)  # of the median of 400 normal values


def test_rounds_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="2 and 1"):
        statistics.ratio_interval([[1.0], [1.0]], [[1.0]])
    with pytest.raises(ValueError, match="no process"):
        statistics.median_interval([])


def test_percentiles_pool_and_thinning_keeps_the_order() -> None:
    p5, p50, p90, p99 = statistics.percentiles([list(range(50)), list(range(50, 101))])
    assert (p5, p50, p90, p99) == (5, 50, 90, 99)
    kept = statistics.thinned([list(range(1000)), list(range(1000, 2000))])
    assert len(kept) == statistics.KEPT_SAMPLES
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (0, 1999)
    assert statistics.thinned([[3.0, 1.0]]) == [3.0, 1.0]


def test_cores_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of three CPUs are ours; one works all the time, one for half of it, a quarter of that for another machine."""
    given = iter(
        [
            "cpu  9 9 9 9\ncpu0 100 0 0 500 10 0 0 0 7 7\ncpu1 0 0 0 100 0 0 0 0 0 0\ncpu2 0 0 0 0 0 0 0 0 0 0",
            "cpu  9 9 9 9\ncpu0 140 5 5 500 10 0 0 0 9 9\ncpu1 10 0 10 125 5 0 0 10 0 0\ncpu2 50 0 0 0 0 0 0 0 0 0",
        ]
    )
    monkeypatch.setattr(describe.os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(describe, "text_of", lambda path, otherwise="": next(given))
    assert describe.busy_cores(0) == 1.5
    monkeypatch.setattr(describe, "text_of", lambda path, otherwise="": otherwise)
    assert describe.busy_cores(0) is None
