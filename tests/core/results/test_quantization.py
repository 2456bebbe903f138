"""What quantization hands back: stored under the keys of old, broken promises flagged, tables of what a person looks for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgec.core.metric import Metric
from edgec.core.results.quantization import QatResult, QuantizeResult
from edgec.recipe.stage_results import result_of_json

MAP = Metric("map50", "mAP 50", share=True)
PSNR = Metric("psnr", "PSNR", "dB", digits=2)
GRAPH: dict[str, Any] = {
    "final": {"map50": 0.75},
    "graph_bytes": 1000,
    "graph_zipped_bytes": 800,
    "float": {"map50": 0.875},
    "drop": 0.125,
    "fusion": {
        "integer": 22,
        "left_float": [
            {"layer": "head", "node": "node_7", "reason": "kept in float by the recipe or its sensitivity", "cause": "kept"}
        ],
        "dequantize": 1,
        "lone": [{"tensor": "head_q", "reason": "read by LeakyRelu, in float"}],
        "wanted": 22,
    },
    "weights": [
        {"layer": "stem", "count": 100, "bits": 8, "huffman_bits": 6.75},
        {"layer": "deep", "count": 300, "bits": 4, "huffman_bits": 3.5, "points": [-1.0, 0.0, 1.0],
         "histogram": [1, 298, 1]},
    ],
}  # fmt: skip
QUANTIZED: dict[str, Any] = GRAPH | {
    "max_drop_kept": True,
    "equalised": {"used": True, "snr_db_before": 24.95, "snr_db_after": 25.5},
    "tried": [
        {"float_layers": 0, "layer": None, "map50": 0.5},
        {"float_layers": 1, "layer": "head", "map50": 0.75},
    ],
    "sensitivity": [
        {"layer": "head", "sqnr_db": 21.25, "cost": 7077888, "kept_float": True, "metric_drop": 0.015},
        {"layer": "stem", "sqnr_db": 34.5, "cost": None, "kept_float": False, "metric_drop": None},
    ],
}
QAT: dict[str, Any] = GRAPH | {
    "curves": [{"epoch": 0, "losses": {"logits/0": 0.5, "total": 0.5}, "metrics": {"map50": 0.75}}],
    "train_seconds": 1.5,
    "images_per_second": 20.0,
    "skipped_steps": 0,
    "rollbacks": 0,
    "teacher": "1ef156",
    "in_torch": {"map50": 0.7501},
    "parity": {"as_written_db": 44.5, "optimised_db": 40.25},
    "only_in_integers": [],
}
TRIED = {
    "tried": [{"observer": "minmax", "metric": 0.5}, {"observer": "kl", "metric": 0.625}],
    "observer": "kl",
    "ranges": 41,
}


def read(kind: str, stored: dict[str, Any]) -> Any:
    return result_of_json(kind, stored)


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        ("quantize", QUANTIZED),
        ("quantize", QUANTIZED | {"equalised": {"used": False}}),  # weights alone: nothing was calibrated
        ("quantize", QUANTIZED | {"equalised": QUANTIZED["equalised"] | {"neural_compressor": TRIED}}),
        ("quantize", QUANTIZED | {"fusion": {k: v for k, v in GRAPH["fusion"].items() if k != "wanted"}}),
        ("qad", QAT),
    ],
)
def test_json_comes_back_as_it_was(kind: str, stored: dict[str, Any]) -> None:
    assert json.loads(read(kind, stored).model_dump_json()) == stored


def test_the_metric_of_each_try_keeps_its_name() -> None:
    result = read("quantize", QUANTIZED | {"tried": [{"float_layers": 2, "layer": "x", "psnr": 31.5}]})
    assert isinstance(result, QuantizeResult)
    assert (result.tried[0].metric, result.tried[0].reached) == ("psnr", 31.5)


def test_a_report_of_old_says_no_cause_and_flags_none() -> None:
    old = {"layer": "c", "node": "n", "reason": "its input or output has no pair"}
    result = read("quantize", QUANTIZED | {"fusion": GRAPH["fusion"] | {"left_float": [old]}})
    assert result.graph.fusion.left_float[0].cause == "unknown"
    assert list(result.flags(MAP, None)) == []


def test_what_int8_loses_beyond_max_drop_is_flagged_in_the_units_of_the_metric() -> None:
    assert list(read("quantize", QUANTIZED).flags(MAP, None)) == []
    worse = read("quantize", QUANTIZED | {"max_drop_kept": False})
    assert list(worse.flags(MAP, None)) == ["int8 loses 0.1250 of mAP 50, more than max_drop"]
    assert list(worse.flags(PSNR, None)) == ["int8 loses 0.12 dB of PSNR, more than max_drop"]


@pytest.mark.parametrize("kind", ["quantize", "qad"])
def test_a_convolution_that_stays_in_float_unasked_is_flagged_by_its_cause_and_not_its_words(
    kind: str,
) -> None:
    left = [{"layer": "c", "node": "n", "reason": "any words at all", "cause": "not_fused"}]
    left += GRAPH["fusion"]["left_float"]
    stored = (QUANTIZED if kind == "quantize" else QAT) | {"fusion": GRAPH["fusion"] | {"left_float": left}}
    assert list(read(kind, stored).flags(MAP, None)) == ["1 convolutions stay in float though int8 was asked"]


@pytest.mark.parametrize(("as_written", "flags"), [(20.0, 0), (19.9, 1), (-3.0, 1)])
def test_an_int8_graph_that_is_not_what_was_trained_is_flagged(as_written: float, flags: int) -> None:
    result = read("qad", QAT | {"parity": {"as_written_db": as_written, "optimised_db": 40.0}})
    assert isinstance(result, QatResult)
    found = list(result.flags(MAP, None))
    assert len(found) == flags and all("dB from what was trained" in flag for flag in found)


def test_sensitivity_and_the_observers_tried_are_shown() -> None:
    stored = QUANTIZED | {"equalised": QUANTIZED["equalised"] | {"neural_compressor": TRIED}}
    tables = {table.title: table for s in read("quantize", stored).sections((MAP,)) for table in s.tables}
    assert tables["Sensitivity"].rows == [
        ["head", "21.2", "7.08 M", "-1.50 points", "yes"],
        ["stem", "34.5", "", "", ""],
    ]
    assert tables["Neural Compressor"].rows == [["minmax", "0.5000"], ["kl", "0.6250"]]
    assert tables["Convolutions in float"].rows == [
        ["head", "kept in float by the recipe or its sensitivity"]
    ]


def test_weights_are_shown_where_some_have_fewer_bits_than_eight() -> None:
    result = read("qad", QAT)
    sections = {section.title: section for section in result.sections((MAP,))}
    tables = {table.title: table for table in sections["Integers"].tables}
    assert tables["Weights"].rows == [["deep", "300", 4, "3.50", 3], ["stem", "100", 8, "6.75", ""]]
    assert [chart.title for chart in sections["Integers"].charts] == ["deep: 3 centroids"]
    assert sections["Parity of training and int8 graph"].tables[0].rows == [["44.5", "40.2", ""]]
    assert result.graph.average_bits == 5.0
    eight = read("qad", QAT | {"weights": QAT["weights"][:1]})
    assert "Weights" not in [table.title for s in eight.sections((MAP,)) for table in s.tables]
