"""Cases compared over rounds: what is compared with what, and which artifacts are named as slower."""

from __future__ import annotations

from pathlib import Path

from edgec.bench.candidate import Candidate, Trial
from edgec.bench.ratios import across, slower, speedups
from edgec.core.results.artifact_id import DENSE, AnyArtifact, ArtifactId
from edgec.core.results.profile import OperatorTime, Speedup
from edgec.devices.probe_answer import LatencyAnswer, OperatorsAnswer

INT8, FP16, FP32 = (ArtifactId("model", precision) for precision in ("int8", "fp16", "fp32"))
TILE = {name: ArtifactId("model", name, "tile") for name in ("int8", "fp32")}
DENSE_TILE = ArtifactId("dense", "fp32", "tile")


def trial(artifact: ArtifactId, runtime: str = "onnxruntime", threads: int = 1) -> Trial:
    plain = ArtifactId(artifact.role, "fp32", artifact.shape)
    return Trial(Candidate(artifact, runtime, artifact.precision, Path(), plain), threads)


def answer(ms: float, side: int = 32) -> LatencyAnswer:
    return LatencyAnswer(samples_ms=(ms, ms, ms), inputs={"images": (1, 3, side, side)})


def pairs(rows: tuple[Speedup, ...]) -> dict[tuple[AnyArtifact, AnyArtifact], float]:
    return {(row.artifact, row.against): round(row.ratio, 6) for row in rows}


def test_a_tile_is_compared_with_tiles_and_never_with_another_size() -> None:
    times = {DENSE: (8.0, 32), FP32: (4.0, 32), INT8: (2.0, 32), DENSE_TILE: (6.0, 24), TILE["fp32"]: (3.0, 24),
             TILE["int8"]: (1.0, 24)}  # fmt: skip
    trials = [trial(artifact) for artifact in times]
    rounds = {t.case: [answer(*times[artifact])] * 3 for t, artifact in zip(trials, times, strict=True)}
    found = pairs(speedups(trials, rounds, DENSE))
    assert found == {
        (FP32, DENSE): 2.0, (INT8, DENSE): 4.0, (INT8, FP32): 2.0,
        (TILE["fp32"], DENSE_TILE): 2.0, (TILE["int8"], DENSE_TILE): 6.0, (TILE["int8"], TILE["fp32"]): 3.0,
    }  # fmt: skip
    assert pairs(across(trials, rounds, DENSE)) == {
        (DENSE, DENSE): 1.0,
        (FP32, DENSE): 2.0,
        (INT8, DENSE): 4.0,
    }


def test_only_rounds_in_which_both_ran_are_compared() -> None:
    one, other = trial(INT8), trial(DENSE)
    rounds = {one.case: [answer(1.0), None, answer(1.0)], other.case: [answer(2.0), answer(2.0), None]}
    (row,) = speedups([one, other], rounds, DENSE)
    assert (row.ratio, row.rounds) == (2.0, 1)
    assert speedups([one, other], {one.case: [answer(1.0)], other.case: [None]}, DENSE) == ()


def test_runtimes_are_compared_across_and_threads_are_not() -> None:
    trials = [trial(DENSE), trial(DENSE, "ncnn"), trial(INT8, "ncnn"), trial(INT8, "ncnn", threads=2)]
    rounds = {t.case: [answer(ms)] for t, ms in zip(trials, (8.0, 16.0, 4.0, 2.0), strict=True)}
    assert pairs(speedups(trials, rounds, DENSE)) == {(INT8, DENSE): 4.0}
    assert [(r.runtime, r.ratio) for r in across(trials, rounds, DENSE)] == [
        ("onnxruntime", 1.0), ("ncnn", 0.5), ("ncnn", 2.0),
    ]  # fmt: skip


def times(**ms: float) -> OperatorsAnswer:
    row = OperatorTime(name="a", type="Conv", ms=1.0, share=1.0)
    return OperatorsAnswer(operators=(row,), types=ms, total_ms=sum(ms.values()))


def test_slower_artifacts_are_named_with_their_operators() -> None:
    def pair(ratio: float, high: float, runtime: str = "onnxruntime", batch: int = 1) -> Speedup:
        return Speedup(
            artifact=FP16, against=FP32, runtime=runtime, threads=1, batch=batch, ratio=ratio, ci_low=ratio - 0.1, ci_high=high
        )  # fmt: skip

    operators: dict[tuple[AnyArtifact, str], OperatorsAnswer] = {
        (FP16, "onnxruntime"): times(Conv=2.0, Cast=1.0),
        (FP32, "onnxruntime"): times(Conv=2.0),
    }
    (row,) = slower([pair(0.7, 0.8)], operators)
    assert (row.artifact, row.against, row.ratio) == (FP16, FP32, 0.7)
    assert [o.type for o in row.operators] == ["Cast"]
    assert slower([pair(1.2, 1.3), pair(0.99, 1.05)], operators) == ()
    assert slower([pair(0.7, 0.8, batch=8)], operators) == ()
    assert slower([pair(0.7, 0.8, "torch")], operators)[0].operators == ()
    assert slower([pair(0.7, 0.8)], {})[0].operators == ()
