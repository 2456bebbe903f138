"""What a report holds of a run: its two sides, the flags of its stages, warnings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgec.core.metric import Metric
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.artifact_id import ArtifactId
from edgec.core.results.export import ArtifactResult
from edgec.core.results.profile import ProfileResult
from edgec.core.results.stage import Cost
from edgec.report.build import notes, side
from edgec.report.latency import group_of
from edgec.report.model import Report

MadeRun = Any  # of conftest.py
INT8, TILE = ArtifactId("model", "int8"), ArtifactId("model", "int8", "tile")


def test_a_report_holds_flags_of_every_stage_in_the_metrics_unit(full: MadeRun, tmp_path: Path) -> None:
    full.metrics = (Metric("psnr", "PSNR", "dB", 3),)
    flags = {stage.name: stage.flags for stage in full.report(tmp_path).stages}
    assert "int8 loses 0.003 dB of PSNR, more than max_drop" in flags["quantize"]
    assert "1 convolutions stay in float though int8 was asked" in flags["quantize"]
    assert flags["sparsify"] == ("3 steps skipped, 1 rollbacks",)
    assert "slows model.fp32 to 0.61 x dense.fp32 with 1 thread(s): Cast" in flags["decompose"]
    assert flags["train"] == flags["export"] == ()


def test_quantized_is_what_the_last_stage_made_of_it(full: MadeRun, tmp_path: Path) -> None:
    both = full.report(tmp_path).quantized
    assert both.drop == -0.0007 and len(both.weights) == 1 and len(both.sensitivity) == 2
    alone = full.without("qad").report(tmp_path)
    assert alone.quantized.drop == 0.0027 and len(alone.quantized.weights) == 2
    assert [stage.stage for stage in alone.rounded] == ["quantize"]
    assert full.without("quantize").report(tmp_path).quantized.model_dump() == {}


def test_a_side_is_the_artifact_on_the_gates_split(full: MadeRun) -> None:
    """Not its tile, which is measured on another size, nor a batch of many."""
    cells = [c for c in full.profile.first.cells if c.artifact == INT8 and c.runtime == "onnxruntime"]
    tiles = [c.model_copy(update={"artifact": TILE, "median_ms": 99.0}) for c in cells]
    figures = full.profile.first.model_copy(update={"cells": (*tiles, *cells)})
    entry = ArtifactResult(file="model.int8.onnx", bytes=7, precision="int8", params=1, val=Accuracy(values={"psnr": 31.0}),
                           test=Accuracy(values={"psnr": 30.0}))  # fmt: skip
    cost = Cost(params=5, macs=6, padded_macs=7)
    made = side(INT8, {INT8: entry}, ProfileResult(devices=(figures,)), cost, "psnr", "test")
    assert (made.metric, made.params, made.bytes) == (30.0, 5, 7)
    assert made.latency.keys() == {"1", "2"} and made.latency["1"].median_ms == 9.83
    assert made.speedup is not None and made.speedup.ratio == 4.19
    nothing = side(None, {}, None, None, "psnr", "val")
    assert (nothing.artifact, nothing.metric, nothing.latency, nothing.speedup) == ("", None, {}, None)


def test_dense_is_what_stood_before_the_first_compression(full: MadeRun, tmp_path: Path) -> None:
    report = full.report(tmp_path)
    assert (report.dense.params, report.out.params) == (5_918_006, 2_104_331)
    assert full.without("train").report(tmp_path).dense.params is None  # nothing was measured before


def test_notes_are_warnings_of_the_last_start_each_once(tmp_path: Path) -> None:
    def note(message: str, level: str = "warning") -> dict[str, str]:
        return {"kind": "note", "level": level, "message": message}

    lines = [
        note("of the first start"),
        {"kind": "run_started"},
        note("a"),
        note("a"),
        note("b", "info"),
        note("c", "error"),
    ]
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [(n.level, n.message) for n in notes(path)] == [("warning", "a"), ("error", "c")]
    path.write_text("".join(json.dumps(note(str(k))) + "\n" for k in range(50)))
    assert len(notes(path)) == 41 and notes(path)[-1].message == "and 10 more, in events.jsonl"
    assert notes(tmp_path / "none") == []


def test_a_decomposed_layer_is_of_the_group_of_the_whole() -> None:
    groups = {"backbone.stem.conv": "s8"}
    assert group_of("backbone.stem.conv.0", groups) == group_of("backbone.stem.conv", groups) == "s8"
    assert group_of("head", groups) == "not pruned"


def test_a_report_comes_back_as_it_was_stored(full: MadeRun, tmp_path: Path) -> None:
    report = full.write(tmp_path)
    again = Report.model_validate_json((tmp_path / "report.json").read_bytes())
    assert again == report
    assert again.model_dump(mode="json") == json.loads((tmp_path / "report.json").read_text())
    assert again.version == 1
