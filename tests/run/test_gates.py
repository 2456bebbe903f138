"""Gates: what is promised and not measured is broken, and says what is missing."""

from __future__ import annotations

from edgec.core.metric import Metric
from edgec.core.results.artifact_id import DENSE, AnyArtifact, ArtifactId, Precision
from edgec.core.results.export import ArtifactResult, ExportResult
from edgec.core.results.profile import DeviceEnvironment, DeviceFigures, Latency, ProfileResult, Speedup
from edgec.core.results.verdict import Verdict
from edgec.recipe import Gates
from edgec.run.gates import check_gates, shipped_artifact

MAP50 = Metric("map50", "mAP 50", share=True)
INT8 = ArtifactId("model", "int8")


def written(precision: Precision, accuracy: dict[str, float], size: int) -> ArtifactResult:
    return ArtifactResult.model_validate(
        {"file": "x.onnx", "bytes": size, "precision": precision, "params": 1, "val": accuracy}
    )


def exported(metric: str = "map50", scale: float = 1.0) -> ExportResult:
    return ExportResult(
        artifacts={
            DENSE: written("fp32", {metric: 0.9 * scale}, 100),
            ArtifactId("model", "fp32"): written("fp32", {metric: 0.895 * scale}, 50),
            INT8: written("int8", {metric: 0.885 * scale}, 20),
        }
    )


def latency(artifact: AnyArtifact, median_ms: float, threads: int = 1, batch: int = 1) -> Latency:
    return Latency(
        artifact=artifact, runtime="onnxruntime", threads=threads, batch=batch, precision="int8", median_ms=median_ms,
        ci_low_ms=median_ms, ci_high_ms=median_ms, runs=9,
    )  # fmt: skip


def profiled(*cells: Latency, speedups: tuple[Speedup, ...] = ()) -> ProfileResult:
    figures = DeviceFigures(
        device="local",
        environment=DeviceEnvironment(cpu="x", cores=2),
        verdict="quiet",
        cells=cells,
        speedups=speedups,
    )
    return ProfileResult(devices=(figures,))


def faster(ratio: float, threads: int = 1, batch: int = 1) -> Speedup:
    return Speedup(
        artifact=INT8, runtime="onnxruntime", threads=threads, batch=batch, against=DENSE, ratio=ratio, ci_low=ratio,
        ci_high=ratio,
    )  # fmt: skip


PROFILE = profiled(latency(INT8, 4.0), speedups=(faster(3.2),))


def verdicts(**gates: object) -> list[bool]:
    return [v.kept for v in check_gates(Gates.model_validate(gates), MAP50, exported(), PROFILE, 1000)]


def only(gates: Gates, profile: ProfileResult | None, results: ExportResult | None = None) -> Verdict:
    (verdict,) = check_gates(gates, MAP50, results, profile, 1)
    return verdict


def test_each_gate_is_kept_and_broken_where_it_should() -> None:
    kept = verdicts(
        max_drop=0.02, min_metric=0.8, min_speedup=3, max_latency_ms=4, max_bytes=20, max_params=1000
    )
    assert kept == [True] * 6
    broken = verdicts(
        max_drop=0.01, min_metric=0.89, min_speedup=3.3, max_latency_ms=3.9, max_bytes=19, max_params=999
    )
    assert broken == [False] * 6
    assert verdicts() == []


def test_what_was_not_measured_is_broken_with_a_remedy() -> None:
    verdict = only(Gates(min_speedup=1.0), None, exported())
    assert not verdict.kept and verdict.measured is None
    assert verdict.remedy == "not measured: add a profile stage after the export"
    verdict = only(Gates(max_drop=0.5, split="test"), PROFILE, exported())
    assert not verdict.kept and "no accuracy was measured on test" in verdict.remedy
    assert "add an export stage" in only(Gates(max_bytes=9), PROFILE).remedy


def test_a_profile_with_other_threads_says_which_it_has() -> None:
    profile = profiled(latency(INT8, 4.0, threads=2), speedups=(faster(3.2, threads=2),))
    verdict = only(Gates(min_speedup=1.0), profile, exported())
    assert not verdict.kept and verdict.measured is None
    assert "was measured in onnxruntime with 2 thread(s); add 1 to profile.threads" in verdict.remedy


def test_gates_are_about_batch_one_wherever_it_stands() -> None:
    cells = (latency(INT8, 40.0, batch=8), latency(INT8, 4.0))
    profile = profiled(*cells, speedups=(faster(9.0, batch=8), faster(2.0)))
    assert only(Gates(max_latency_ms=5.0), profile, exported()).measured == 4.0
    assert only(Gates(min_speedup=3.0), profile, exported()).measured == 2.0


def test_a_precision_that_was_not_exported_is_named() -> None:
    verdict = only(Gates(artifact="fp16", max_bytes=99), PROFILE, exported())
    assert "model.fp16 was not exported, only dense.fp32, model.fp32, model.int8" in verdict.remedy


def test_the_smallest_precision_is_the_shipped_one() -> None:
    assert shipped_artifact(Gates(), exported()) == INT8
    assert shipped_artifact(Gates(artifact="fp32"), exported()) == ArtifactId("model", "fp32")
    assert shipped_artifact(Gates(), None) is None


def test_a_promise_names_the_unit_of_its_metric() -> None:
    psnr = Metric("psnr", "PSNR", "dB")
    (verdict,) = check_gates(Gates(max_drop=1.0), psnr, exported("psnr", 33.0), None, 1)
    assert verdict.promise == "PSNR lost by model.int8 on val in dB, at most" and verdict.kept
