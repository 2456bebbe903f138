"""What a benchmark measured goes into the cells of the results page that it is about, in their units."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import bench_crops  # noqa: E402
import bench_darknet  # noqa: E402
import bench_imdn  # noqa: E402
import bench_overhead  # noqa: E402
import bench_profile  # noqa: E402
import bench_quantize  # noqa: E402
import bench_recipe  # noqa: E402
from results_schema import Figure, Results  # noqa: E402


def known(name: str) -> set[tuple[str, str, str]]:
    text = (ROOT / "docs" / "results" / f"{name}.json").read_text(encoding="utf-8")
    return {f.place for f in Results.model_validate_json(text).figures}


def values(figures: Sequence[Figure]) -> dict[str, float | None]:
    return {f"{f.row}: {f.column}": f.value for f in figures}


def test_darknet_networks() -> None:
    measured = {"map50_torch": 0.7322, "map50_onnxruntime": 0.7321, "snr_db": 117.6, "parameters": 847206}
    figures = bench_darknet.figures_of({"yolo-fastest-xl": measured})
    assert {f.place for f in figures} <= known("darknet")
    assert values(figures)["yolo-fastest-xl: mAP50, onnxruntime"] == 73.21
    assert values(figures)["yolo-fastest-xl: SNR of the export"] == 118


def test_imdn() -> None:
    measured = {"set5": "32.210/0.8948", "set14": "28.582/0.7811"}
    cropped = {"four_crops": 26.063, "padding": 26.098}
    figures = bench_imdn.figures_of(
        {
            "imdn_x4": {"parameters": 715176, "onnxruntime": measured},
            "imdn_as": {"parameters": 752104, "onnxruntime": measured, "no_multiple_of_4": cropped},
        }
    )
    assert {f.place for f in figures} <= known("imdn")
    assert values(figures)["IMDN x4: Set14, SSIM"] == 0.7811
    assert set(bench_imdn.ROWS) == set(bench_imdn.NETWORKS)


def test_crops() -> None:
    way = {"growth_mb": 269, "seconds": 9.41, "largest_difference": 2.0}
    sides = {"1000": {name: way for name in bench_crops.WAYS}, "250": {"tiles, local": way}}
    figures = bench_crops.figures_of({"sides": sides, "set14_psnr": {"whole": 28.5821}})
    assert {f.place for f in figures} <= known("crops")
    assert values(figures)["`--tile-memory 256MB`: seconds"] == 9.4
    assert bench_crops.figures_of({"sides": {"1000": {"tiles, local": {"failed": ["no memory"]}}}}) == []


def test_overhead() -> None:
    figures = bench_overhead.figures_of({"fit_by_bare": 0.9871, "help_by_import": 2.431})
    assert {f.place for f in figures} <= known("overhead")
    assert [f.value for f in figures] == [0.99, 2.43]


def test_the_harness() -> None:
    measured = {
        "aa_ratio": [1.012, 0.994, 1.029], "harness_by_bare_loop": [0.996, 0.988, 1.042], "repeated_spread": 0.0207,
        "repeated_medians_ms": [7.74, 7.9], "repeated_verdicts": ["quiet", "quiet"],
    }  # fmt: skip
    figures = bench_profile.harness_figures(measured)
    assert {f.place for f in figures} == known("harness")
    assert figures[-1].note == "7.74 to 7.90 ms, verdicts: quiet" and figures[-1].value == 2.1


def test_ways_of_quantization() -> None:
    detector = {"map50": 0.8386, "bytes": 1510312, "speed_1": [2.51, 2.36, 2.66]}
    images = {"psnr": 29.0, "psnr/set5": 32.1234, "psnr/set14": 28.5221, "bytes": 870658}
    figures = bench_quantize.figures_of(
        {
            "bccd": {"machine": "busy: ratios only", "routes": {"qad int8": detector}},
            "imdn_x4": {"machine": "quiet", "routes": {"qad int8": images}},
        }
    )
    assert {f.place for f in figures} <= known("quantization")
    assert values(figures)["QAT, int8: BCCD dense, test"] == 83.86
    assert values(figures)["QAT, int8: IMDN x4, Set5"] == 32.123
    speed = next(f for f in figures if f.low is not None)
    assert (speed.row, speed.value, speed.low, speed.high, speed.note) == (
        "QAT, int8",
        2.51,
        2.36,
        2.66,
        "busy",
    )
    assert set(bench_quantize.ROWS) - {"fp32", "onnxruntime default"} <= set(bench_quantize.ROUTES)


def test_a_recipe_takes_each_cell_from_the_report_in_its_unit_and_digits() -> None:
    text = (ROOT / "docs" / "results" / "bccd.json").read_text(encoding="utf-8")
    speedups = [
        {"artifact": "model.int8", "against": "dense.fp32", "runtime": "onnxruntime", "batch": 1, "threads": threads,
         "ratio": ratio, "ci_low": ratio - 0.25, "ci_high": ratio + 0.25}
        for threads, ratio in ((2, 2.125), (1, 4.0625))
    ]  # fmt: skip
    report = {
        "dense": {"params": 1000, "macs": 400_000_000, "padded_macs": 410_000_000},
        "out": {"params": 250, "macs": 163_400_000, "padded_macs": 164_000_000},
        "artifacts": {
            "dense.fp32": {
                "bytes": 4000,
                "val": {"map50": 0.8, "map": 0.5},
                "test": {"map50": 0.81, "map": 0.51},
            },
            "model.int8": {
                "bytes": 500,
                "val": {"map50": 0.7, "map": 0.4},
                "test": {"map50": 0.71234, "map": 0.41},
            },
        },
        "profile": {"verdict": "busy: ratios only", "speedups": speedups, "cells": []},
    }
    found = bench_recipe.figures_of(report, Results.model_validate_json(text))
    assert {f.place for f in found} <= known("bccd")
    cells = {(f.row, f.column): f for f in found}
    assert (cells["parameters", "compressed, int8"].value, cells["parameters", "compressed, int8"].note) == (
        250,
        "-75.0 %",
    )
    assert cells["MACs", "compressed, int8"].value == 163 and cells["padded MACs", "dense, fp32"].value == 410
    assert cells["mAP50, test (72 images), onnxruntime", "compressed, int8"].value == 71.23
    assert cells["mAP50, val (87 images)", "compressed, int8"].value == 70
    assert cells["mAP 50:95, test", "dense, fp32"].value == 51
    one, two = (cells[f"speed-up, onnxruntime, {n}", "compressed, int8"] for n in ("1 thread", "2 threads"))
    assert (one.value, one.low, one.high, one.note) == (4.06, 3.81, 4.31, "busy machine")
    assert two.value == 2.12
