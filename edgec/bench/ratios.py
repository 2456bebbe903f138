"""Cases compared over the rounds in which both ran: speed-ups, and which artifacts are slower than they should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgec.bench import statistics
from edgec.bench.candidate import Trial
from edgec.bench.operators import extra_times
from edgec.core.results.artifact_id import AnyArtifact, ArtifactId
from edgec.core.results.profile import ONNXRUNTIME, Case, Slower, Speedup
from edgec.devices.probe_answer import LatencyAnswer, OperatorsAnswer

SLOWER = 0.97  # a ratio below it, or an interval wholly below 1, names an artifact as slower
Rounds = Mapping[Case, Sequence[LatencyAnswer | None]]  # by round; None where a process gave no answer


def speedups(trials: Sequence[Trial], rounds: Rounds, base: AnyArtifact) -> tuple[Speedup, ...]:
    """Each artifact against `base`, and against fp32 of the same network and shape, where both ran in one runtime
    on inputs of one size.
    """
    cases = {trial.case for trial in trials}
    rows: list[Speedup] = []
    for trial in trials:
        case = trial.case
        for against in dict.fromkeys((base, _in_shape_of(case.artifact, base), trial.candidate.plain)):
            if against is None or against == case.artifact:
                continue
            other = case.model_copy(update={"artifact": against})
            row = _speedup(case, other, rounds) if other in cases else None
            rows += [row] if row is not None else []
    return tuple(rows)


def _in_shape_of(artifact: AnyArtifact, base: AnyArtifact) -> AnyArtifact:
    """What a tile is compared with: the tile of the base, which runs on inputs of its size."""
    if isinstance(artifact, ArtifactId) and isinstance(base, ArtifactId):
        return replace(base, shape=artifact.shape)
    return base


def across(trials: Sequence[Trial], rounds: Rounds, base: AnyArtifact) -> tuple[Speedup, ...]:
    """Every case, in whatever runtime, against one artifact in onnxruntime with as many threads."""
    cases = {trial.case for trial in trials}
    rows: list[Speedup] = []
    for trial in trials:
        case = trial.case
        other = case.model_copy(update={"artifact": base, "runtime": ONNXRUNTIME})
        row = _speedup(case, other, rounds) if other in cases else None
        rows += [row] if row is not None else []
    return tuple(rows)


def _speedup(case: Case, other: Case, rounds: Rounds) -> Speedup | None:
    """How many times as fast a case is as the other, over the rounds in which both ran on inputs of one size; None without."""
    both = [
        (b.samples_ms, a.samples_ms)
        for a, b in zip(rounds[case], rounds[other], strict=True)
        if a is not None and b is not None and a.sizes == b.sizes
    ]
    if not both:
        return None
    ratio, low, high = statistics.ratio_interval([b for b, _ in both], [a for _, a in both])
    return Speedup(
        artifact=case.artifact,
        runtime=case.runtime,
        threads=case.threads,
        batch=case.batch,
        against=other.artifact,
        ratio=ratio,
        ci_low=low,
        ci_high=high,
        rounds=len(both),
    )


def slower(
    rows: Sequence[Speedup], operators: Mapping[tuple[AnyArtifact, str], OperatorsAnswer]
) -> tuple[Slower, ...]:
    """Artifacts that take more time than what they are compared with, with the operators that make it so.

    Operators are those of onnxruntime with one thread; for other runtimes there are none.
    """
    slow_artifacts: list[Slower] = []
    for row in rows:
        if row.batch != 1 or not (row.ratio < SLOWER or row.ci_high < 1):
            continue
        mine, other = (operators.get((a, ONNXRUNTIME)) for a in (row.artifact, row.against))
        known = row.runtime == ONNXRUNTIME
        slow_artifacts.append(
            Slower(
                artifact=row.artifact,
                against=row.against,
                runtime=row.runtime,
                threads=row.threads,
                ratio=row.ratio,
                operators=extra_times(mine, other)
                if known and mine is not None and other is not None
                else (),
            )
        )
    return tuple(slow_artifacts)
