"""A recipe's figures: `python tools/bench_recipe.py detector superres bccd voc_yolo_fastest_xl imdn_x4`; by default the demos.

Runs each shipped recipe as `edgec compress` does (from the cache where it was run before; latency is always measured again) and
takes its figures from report.json. A broken gate is a result, too. --run NAME=FOLDER takes a finished run instead. Ends with
one JSON line per recipe.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results_file import add_write, finish, name_data_folder
from results_page import FILES
from results_schema import Figure, Results

from edgec.core.errors import GateBroken
from edgec.run.pipeline import compress

TOPICS = {
    "voc_yolo_fastest_xl": "voc"
}  # files under docs/results/ that are called otherwise than their recipe
UNITS = {"M": 1e6, "G": 1e9}
METRICS = {"mAP50": ("map50", 100), "mAP 50:95": ("map", 100), "PSNR": ("psnr", 1), "SSIM": ("ssim", 1)}
SETS = {"Set5": ("test", "/set5"), "Set14": ("test", "/set14"), "BSDS500 test": ("val", "")}


def figures_of(report: Mapping[str, Any], known: Results) -> list[Figure]:
    """The cells of a topic that a report has, each in the unit and with the digits that it is shown with."""
    found: list[Figure] = []
    for figure in known.figures:
        side = (
            "dense.fp32"
            if figure.column.startswith("dense")
            else f"model.{figure.column.rpartition(', ')[2]}"
        )
        value, low, high = measured(report, side, figure.row)
        if value is None:
            continue
        scale = UNITS.get(figure.unit, 1)
        note = figure.note
        dense = measured(report, "dense.fp32", figure.row)[0]
        if re.fullmatch(r"-[\d.]+ %", note) and dense:
            note = f"{100 * (value / dense - 1):.1f} %"
        if figure.row.startswith("speed-up"):
            note = "" if report["profile"]["verdict"] == "quiet" else "busy machine"
        ends = {k: None if v is None else round(v, figure.digits) for k, v in (("low", low), ("high", high))}
        found.append(
            figure.model_copy(
                update={"value": round(value / scale, figure.digits), "note": note, "date": None, **ends}
            )
        )
    return found


def measured(
    report: Mapping[str, Any], side: str, row: str
) -> tuple[float | None, float | None, float | None]:
    """(value, low, high) of a row of the page for an artifact; None where the report does not have it."""
    costs = report["dense" if side.startswith("dense") else "out"]
    artifact: Mapping[str, Any] = report["artifacts"].get(side) or {}
    name = row.partition(",")[0]
    threads = int(m[1]) if (m := re.search(r"(\d+) thread", row)) else 1
    if name == "parameters":
        return costs["params"], None, None
    if name.startswith(("MACs", "padded MACs")):
        return costs["padded_macs" if name.startswith("padded") else "macs"], None, None
    if row == "file, bytes":
        return artifact.get("bytes"), None, None
    if name == "speed-up":
        ratio = _one(
            report["profile"].get("speedups", []), artifact=side, against="dense.fp32", threads=threads
        )
        return (ratio["ratio"], ratio["ci_low"], ratio["ci_high"]) if ratio else (None, None, None)
    if name == "latency":
        cell = _one(report["profile"].get("cells", []), artifact=side, threads=threads)
        return (cell["median_ms"], None, None) if cell else (None, None, None)
    split, which = SETS.get(name, ("test" if ", test" in row else "val", ""))
    title = next((t for t in METRICS if t in row), None)
    if title is None:
        return None, None, None
    key, share = METRICS[title]
    value = (artifact.get(split) or {}).get(f"{key}{which}")
    return (None if value is None else share * value), None, None


def _one(rows: list[Mapping[str, Any]], **wanted: object) -> Mapping[str, Any] | None:
    """The first row of onnxruntime and batch 1 that agrees."""
    wanted = {"runtime": "onnxruntime", "batch": 1, **wanted}
    return next((row for row in rows if all(row.get(k, 1) == v for k, v in wanted.items())), None)


def report_of(recipe: str, finished: Path | None, out: Path) -> dict[str, Any]:
    """report.json of a finished run, or of a run made now."""
    folder = finished or out / recipe
    if finished is None:
        try:
            compress(recipe, run=folder)
        except GateBroken as broken:
            print(f"{recipe}: {broken}", flush=True)
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="*", default=["detector", "superres"])
    parser.add_argument(
        "--run", action="append", default=[], metavar="NAME=FOLDER", help="a finished run of a recipe"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bench_recipe"))
    add_write(parser)
    options = parser.parse_args()
    name_data_folder()
    finished = {name: Path(folder) for name, _, folder in (each.partition("=") for each in options.run)}
    for name in finished or options.recipes:
        recipe = str(name)
        topic = TOPICS.get(recipe, recipe)
        known = Results.model_validate_json((FILES / f"{topic}.json").read_text(encoding="utf-8"))
        report = report_of(recipe, finished.get(recipe), options.out)
        finish(topic, figures_of(report, known), options.write)


if __name__ == "__main__":
    main()
