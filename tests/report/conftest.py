"""Made-up runs, of the types that the program hands to a report: one with everything, one with next to nothing."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgec.core.metric import Metric
from edgec.core.network import Network
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.artifact_id import DENSE, ArtifactId
from edgec.core.results.export import ArtifactResult, ExportResult
from edgec.core.results.fusion import Fusion, LeftFloat
from edgec.core.results.other import InputResult
from edgec.core.results.profile import (
    Conversion,
    DeviceEnvironment,
    DeviceFigures,
    ExtraTime,
    Failure,
    Latency,
    OperatorTime,
    OperatorTimes,
    ProfileResult,
    Slower,
    Speedup,
)
from edgec.core.results.pruning import (
    DecomposeResult,
    GroupPruned,
    LayerDecomposed,
    LayerPruned,
    PruneResult,
    Target,
)
from edgec.core.results.quantization import (
    Equalized,
    Int8Graph,
    LayerReturned,
    LayerSensitivity,
    LayerWeights,
    NeuralCompressor,
    ObserverTried,
    Parity,
    QatResult,
    QuantizeResult,
)
from edgec.core.results.stage import Cost, StageRecord, StageResult
from edgec.core.results.training import ChannelSizes, DistillResult, Epoch, SparsifyResult, TrainResult
from edgec.core.results.verdict import Verdict
from edgec.recipe import load
from edgec.report.build import Finished, report_of, sections_of
from edgec.report.model import Report
from edgec.report.write import Image, write

HOSTILE = '<script>alert("x")</script>'
MAP50, MAP = Metric("map50", "mAP 50", share=True), Metric("map", "mAP 50:95", share=True)
FP32, FP16, INT8 = (ArtifactId("model", precision) for precision in ("fp32", "fp16", "int8"))
BEFORE = Cost(params=5_918_006, macs=3_405_000_000, padded_macs=3_600_000_000)
AFTER = Cost(params=2_104_331, macs=1_204_000_000, padded_macs=1_310_000_000)


@dataclass
class MadeRun:
    """A finished run that a test may change before it is reported."""

    records: dict[str, StageRecord]
    gates: list[Verdict] = field(default_factory=list)
    shipped: str | None = "int8"
    metrics: tuple[Metric, ...] = (MAP50, MAP)
    environment: dict[str, Any] = field(default_factory=lambda: {"edgec": "0.1.0"})
    overrides: dict[str, Any] = field(default_factory=lambda: {"name": "made-up"})
    command: str = "edgec compress 'made up.yaml' --set stages.prune.ratio=0.5"

    def change(self, stage: str, **updates: Any) -> MadeRun:
        """Other figures of a stage's result, in place."""
        record = self.records[stage]
        self.records[stage] = replace(record, result=record.result.model_copy(update=updates))
        return self

    def first(self, **updates: Any) -> MadeRun:
        """Other figures of the first device, in place."""
        devices = self.profile.devices
        return self.change("profile", devices=(devices[0].model_copy(update=updates), *devices[1:]))

    def without(self, *stages: str) -> MadeRun:
        self.records = {name: record for name, record in self.records.items() if name not in stages}
        return self

    @property
    def profile(self) -> ProfileResult:
        result = self.records["profile"].result
        assert isinstance(result, ProfileResult)
        return result

    def finished(self, folder: Path) -> Finished:
        task: Any = SimpleNamespace(
            metrics=self.metrics, metric=self.metrics[0].name, digest=lambda: "d" * 64
        )
        recipe = load("detector", {"pictures": 0, **{k: v for k, v in self.overrides.items() if k != "name"}})
        return Finished(
            folder=folder, recipe=recipe.model_copy(update={"name": self.overrides["name"], "seed": 5}), task=task,
            records=list(self.records.values()), gates=self.gates, shipped=self.shipped, artifacts=folder,
            dense=Network("none"), network=Network("none"), environment=self.environment, command=self.command,
            seconds=1234.5, device="cpu",
        )  # fmt: skip

    def report(self, folder: Path) -> Report:
        return report_of(self.finished(folder)).model_copy(update={"date": "2026-01-02 03:04 UTC"})

    def write(self, folder: Path, pictures: list[Image] | None = None) -> Report:
        report = self.report(folder)
        write(folder, report, sections_of(self.finished(folder)), pictures or [])
        return report


def cell(
    artifact: ArtifactId, threads: int, median: float, runtime: str = "onnxruntime", **more: Any
) -> Latency:
    noise = random.Random(f"{artifact}{threads}{runtime}")
    return Latency(
        **{
            "artifact": artifact, "runtime": runtime, "precision": artifact.precision, "threads": threads,
            "size": ((256, 256),), "median_ms": median, "ci_low_ms": 0.98 * median, "ci_high_ms": 1.03 * median,
            "p5_ms": 0.9 * median, "p50_ms": median, "p90_ms": 1.2 * median, "p99_ms": 1.5 * median, "first_ms": 4 * median,
            "load_ms": 61.5, "peak_rss_bytes": 92_000_000, "processes": 5, "runs": 420,
            "samples_ms": tuple(median * noise.lognormvariate(0, 0.06) for _ in range(200)), **more,
        }
    )  # fmt: skip


def speedup(
    artifact: ArtifactId,
    threads: int,
    ratio: float,
    runtime: str = "onnxruntime",
    against: ArtifactId = DENSE,
) -> Speedup:
    return Speedup(
        artifact=artifact, runtime=runtime, threads=threads, against=against, ratio=ratio, ci_low=0.97 * ratio,
        ci_high=1.02 * ratio, rounds=5,
    )  # fmt: skip


def accuracy(map50: float) -> Accuracy:
    return Accuracy.model_validate(
        {"map50": map50, "map": 0.6 * map50, "images": 128, f"ap50/{HOSTILE}": map50}
    )


def artifact(size: int, map50: float, precision: Any, **more: Any) -> ArtifactResult:
    return ArtifactResult(
        file=f"{precision}.onnx", bytes=size, zipped_bytes=size - 100, precision=precision, params=7, snr_db=61.2,
        max_abs_error=0.1, val=accuracy(map50), test=accuracy(map50 - 0.01), torch={"val": map50 + 0.0012},
        drop_from_torch=0.0012, **more,
    )  # fmt: skip


def curves(*names: str) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(
            epoch=e,
            losses={**{n: (k + 1) / (e + 1) for k, n in enumerate(names)}, "total": 9 / (e + 1)},
            metrics=Accuracy(values={"map50": 0.1 * e, "map": 0.06 * e} if e % 2 else {}),
        )
        for e in range(8)
    )


FUSION = Fusion(
    integer=19, wanted=21, dequantize=3,
    left_float=(LeftFloat(layer="head.out", node="node_conv_9", reason="its input or output has no pair", cause="not_fused"),),
)  # fmt: skip


def pruned() -> PruneResult:
    groups = ["s8", "s16", "s32", "top_down"]
    layers = tuple(
        LayerPruned(name=f"layer{k}.conv", group=groups[k // 6], before=32 * (1 + k // 4), kept=8 * (1 + k // 3), at_floor=False,
                    layers=(f"layer{k}.conv",))
        for k in range(22)
    )  # fmt: skip
    return PruneResult(
        final=accuracy(0.41), before=BEFORE, after=AFTER, layers=layers,
        groups=tuple(
            GroupPruned(name=g, before=512, kept=200 + 10 * k, threshold=0.03 * k, ratio=0.5) for k, g in enumerate(groups)
        ),
        target=Target(of="params", asked=0.34, reached=0.36),
    )  # fmt: skip


def int8_graph(drop: float, size: int, *weights: LayerWeights) -> Int8Graph:
    return Int8Graph.model_validate(
        {"graph_bytes": size, "graph_zipped_bytes": size - 100_000, "float": accuracy(0.5958), "drop": drop, "fusion": FUSION,
         "weights": weights}
    )  # fmt: skip


def quantized() -> QuantizeResult:
    few = LayerWeights(layer=f"layer{HOSTILE}", count=300, bits=4, huffman_bits=3.61, points=(-1.0, -0.4, 0.1, 0.9),
                       histogram=tuple(k % 7 for k in range(64)))  # fmt: skip
    tried = NeuralCompressor(tried=(ObserverTried(observer="kl", metric=0.81),), observer="kl", ranges=9)
    return QuantizeResult(
        final=accuracy(0.5931), max_drop_kept=False,
        graph=int8_graph(0.0027, 901_234, few, LayerWeights(layer="head.out", count=100, bits=8, huffman_bits=6.9)),
        equalised=Equalized(used=False, neural_compressor=tried),
        tried=(LayerReturned(float_layers=1, layer="head.out", metric="map50", reached=0.59),),
        sensitivity=(
            LayerSensitivity(layer="head.out", sqnr_db=18.4, cost=77_000, kept_float=True, metric_drop=0.0123),
            LayerSensitivity(layer="layer3.conv", sqnr_db=31.0),
        ),
    )  # fmt: skip


def retrained() -> QatResult:
    return QatResult(
        final=accuracy(0.5951), curves=curves("box"), teacher="t" * 64, in_torch=accuracy(0.596),
        graph=int8_graph(-0.0007, 900_123, LayerWeights(layer="head.out", count=100, bits=8, huffman_bits=6.9)),
        parity=Parity(as_written_db=41.0, optimised_db=39.5),
    )  # fmt: skip


def profiled() -> ProfileResult:
    times = {DENSE: 41.2, FP32: 17.9, INT8: 9.83}
    cells = [cell(INT8, 1, 80.0, batch=8)]  # what is asked for stands nowhere first
    cells += [cell(a, threads, ms / threads**0.8) for threads in (2, 1) for a, ms in times.items()]
    cells += [cell(DENSE, 1, 61.0, "torch"), cell(INT8, 1, 12.7, "ncnn"), cell(INT8, 1, 11.5, "mnn")]
    first = DeviceFigures(
        device="local",
        environment=DeviceEnvironment(cpu="A processor", cores=2),
        verdict="busy: ratios only",
        reasons=("load average 3.8 on 2 cores before the measurement",),
        cells=tuple(cells),
        speedups=(speedup(FP32, 1, 2.3), speedup(INT8, 1, 4.19), speedup(INT8, 2, 3.7)),
        across=(speedup(INT8, 1, 3.21, "ncnn"),),
        operators=(
            OperatorTimes(artifact=DENSE, runtime="onnxruntime", types={"Conv": 38.25, "Concat": 2.5},
                          operators=(OperatorTime(name="conv_0", type="Conv", ms=30.5, share=0.74),
                                     OperatorTime(name="concat_1", type="Concat", ms=1.5, share=0.04))),
            OperatorTimes(artifact=INT8, runtime="onnxruntime", types={"QLinearConv": 8.75},
                          operators=(OperatorTime(name=f"conv {HOSTILE}", type="QLinearConv", ms=7.5, share=0.76,
                                                  layer="layer3.conv"),)),
            OperatorTimes(artifact=INT8, runtime="mnn", types={"Convolution": 5.5},
                          operators=(OperatorTime(name="conv", type="Convolution", ms=5.5, share=1.0),)),
        ),
        slower=(Slower(artifact=FP32, against=DENSE, runtime="onnxruntime", threads=1, ratio=0.61,
                       operators=(ExtraTime(name="", type="Cast", ms=3.25, against_ms=0, extra_ms=3.25),)),),
        failures=(Failure(artifact=FP16, runtime="mnn", kind="failed", error=f"{HOSTILE} segfault"),),
    )  # fmt: skip
    phone = DeviceFigures(
        device=f"phone {HOSTILE}",
        environment=DeviceEnvironment(cpu="A phone", cores=8),
        verdict="quiet",
        cells=(
            cell(INT8, 1, 23.5, "ncnn", p5_ms=None, p90_ms=None, p99_ms=None, peak_rss_bytes=None),
            cell(INT8, 1, 151.0, "ncnn", batch=8, p5_ms=150.25),
        ),
        failures=(Failure(device="pi", kind="missing", error="nothing listens there"),),
    )
    return ProfileResult(
        devices=(first, phone),
        conversions=(
            Conversion(artifact=INT8, runtime="ncnn", precision="int8", bytes=1_234_567, snr_db=34.04, max_abs_error=0.3,
                       metrics=accuracy(0.5888)),
            Conversion(artifact=FP16, runtime="mnn", precision="fp16", kind="failed", reason=f"{HOSTILE} segfault"),
        ),
        fusion={INT8: FUSION},
    )  # fmt: skip


def everything() -> MadeRun:
    trained = {"final": accuracy(0.5932), "train_seconds": 700.0, "images_per_second": 71.5}
    sizes = ChannelSizes(
        edges=tuple(k / 40 for k in range(41)), before=tuple(max(0, 60 - abs(k - 25) * 4) for k in range(40)),
        after=tuple(300 if k == 0 else max(0, 30 - abs(k - 20) * 2) for k in range(40)), near_zero_before=0.002,
        near_zero_after=0.41,
    )  # fmt: skip
    decomposed = LayerDecomposed(name="layer9.conv", rank=24, of=96, energy=0.987, lost=0.0123)
    results: dict[str, tuple[StageResult, Cost, float]] = {
        "train": (TrainResult(curves=curves("box", "objectness", "class"), **trained), BEFORE, 700.0),
        "sparsify": (
            SparsifyResult(curves=curves("box", "class"), gamma=sizes, skipped_steps=3, rollbacks=1, **trained), BEFORE, 300.0,
        ),
        "prune": (pruned(), AFTER, 2.5),
        "decompose": (DecomposeResult(layers=(decomposed,), before=AFTER, after=AFTER), AFTER, 1.5),
        "distill": (
            DistillResult(curves=curves("box", "attention/s16", f"logits/{HOSTILE}"), teacher="t" * 64, **trained), AFTER, 200.0,
        ),
        "quantize": (quantized(), AFTER, 12.0),
        "qad": (retrained(), AFTER, 90.0),
        "export": (
            ExportResult(
                final=accuracy(0.6034),
                artifacts={
                    DENSE: artifact(23_700_112, 0.6123, "fp32"), FP32: artifact(8_421_004, 0.6061, "fp32"),
                    INT8: artifact(2_150_998, 0.6034, "int8", fusion=FUSION, float_layers=("head.out",)),
                },
            ),
            AFTER, 8.0,
        ),
        "profile": (profiled(), AFTER, 30.0),
    }  # fmt: skip
    records = {
        name: StageRecord(name, result.kind, result, cached=name == "train", seconds=seconds, cost=cost)
        for name, (result, cost, seconds) in results.items()
    }
    return MadeRun(
        records,
        gates=[
            Verdict(promise="map50 lost by model.int8 on val, at most", limit=0.01, measured=0.0089, kept=True),
            Verdict(promise="speed of model.int8 against dense fp32, 1 thread, at least", limit=5.0, measured=4.19, kept=False,
                 remedy="prune more"),
            Verdict(promise="latency of model.int8 with 1 thread in ms, at most", limit=20.0, measured=None, kept=False,
                 remedy="not measured: add the export and profile stages"),
        ],
        environment={"edgec": "0.1.0", "cpu": f"A {HOSTILE} processor", "cores": 2, "torch": "2.8.0"},
    )  # fmt: skip


@pytest.fixture
def full() -> MadeRun:
    return everything()


@pytest.fixture
def minimal() -> MadeRun:
    """A network that was looked at: no gates, no artifacts, nothing profiled."""
    return MadeRun({"input": StageRecord("input", "input", InputResult(), cached=True)}, shipped=None)


@pytest.fixture
def pictures() -> list[Image]:
    jpeg = base64.b64encode(b"\xff\xd8\xff\xe0 a picture").decode()
    return [Image(f"val-00000: {HOSTILE}", "image/jpeg", jpeg)]


@pytest.fixture
def hostile() -> Callable[[str], int]:
    """How often the hostile name stands unescaped in a page."""
    return lambda page: page.count(HOSTILE)
