"""The report's three files: whole, the same figures in each, safe to open, content with missing parts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from edgec.core.metric import Metric
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.artifact_id import DENSE, ArtifactId
from edgec.core.results.export import ExportResult
from edgec.core.results.pruning import PruneResult
from edgec.core.results.stage import StageResult
from edgec.core.results.training import TrainResult
from edgec.core.results.verdict import Verdict
from edgec.report.write import Image

MadeRun = Any  # of conftest.py
Tree = dict[str, Any]
INT8 = ArtifactId("model", "int8")
VOID = {"meta", "link", "img", "br", "hr", "input", "line", "rect", "circle", "polyline"}
HOSTILE = '<script>alert("x")</script>'
SECTIONS = [
    "Gates", "In and out", "Stages", "Artifacts", "Latency on local", f"Latency on phone {HOSTILE}", "Pictures", "Training",
    "Channels", "Ranks", "Sensitivity", "Integers", "Parity of training and int8 graph", "Ways to fewer bits", "Notes",
    "To reproduce",
]  # fmt: skip


class Page(HTMLParser):
    """A page taken apart: sections, text, table cells, images and charts; complains of tags left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[str] = []
        self.rows: list[list[str]] = []
        self.charts: list[dict[str, str | None]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "h2":
            self.sections.append("")
        if tag == "svg":
            self.charts.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        if self.open and self.open[-1] == "h2":
            self.sections[-1] += data
        if not {"script", "style"} & set(self.open):
            self.text += data + " "


@dataclass
class Written:
    page: Page
    html: str
    figures: Tree
    markdown: str

    @property
    def rows(self) -> dict[str, list[str]]:
        """The rows of the page by their first cell; the first of those that share one."""
        return {row[0]: row[1:] for row in reversed(self.page.rows) if row}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Written]:
    """Writes a report, and reads the three files."""

    def go(run: MadeRun, pictures: list[Image] | None = None) -> Written:
        warning = {"kind": "note", "level": "warning", "message": f"class {HOSTILE!r} has 3 objects"}
        if "profile" in run.records:
            (tmp_path / "events.jsonl").write_text(json.dumps(warning) + "\n", encoding="utf-8")
        run.write(tmp_path, pictures)
        html, figures, text = (
            (tmp_path / f"report.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "json", "md")
        )
        return Written(Page(html), html, json.loads(figures, parse_constant=pytest.fail), text)

    return go


def test_a_full_run_has_every_section(
    written: Callable[..., Written], full: MadeRun, pictures: list[Image]
) -> None:
    made = written(full, pictures)
    page = made.page
    assert page.sections == SECTIONS
    assert page.open == []
    assert "a gate is broken" in page.text
    assert "every gate kept" not in page.text
    for part in ("4.19 x", "0.6034", "41.20 (40.38 to 42.44)", "busy: ratios only", "load average 3.8 on 2 cores",
                 "19 of 21 wanted", "slows model.fp32 to 0.61 x dense.fp32", "5,918,006", "2,150,998", "420",
                 "model.fp32 is slower than dense.fp32", "41.0 % after", "head.out", "its input or output has no pair",
                 "0.5888", "34.0", "1,234,567", "3.21 x (3.11 to 3.27)", "segfault", "governor unavailable",
                 "A phone", "23.50", "150.25", "nothing listens there", "QAT (qad)", "post-training (quantize)",
                 "-0.27 points", "-1.23 points", "900,123", "dddddddddddddddd", "seed 5",
                 "model.int8 in mnn: ms by operator type"):  # fmt: skip
        assert part in page.text, part
    assert f"data:image/jpeg;base64,{pictures[0].base64}" in made.html
    for part in ("4.19 x", "0.6034", "41.20 (40.38 to 42.44)", "**a gate is broken**", "| train | 0.5932 |"):
        assert part in made.markdown, part


def test_what_every_stage_has_to_show_is_on_the_page(written: Callable[..., Written], full: MadeRun) -> None:
    """A new kind of stage is in it by its sections alone, as decompose is."""
    made = written(full)
    assert made.rows["layer9.conv"] == ["24", "96", "98.70 %", "0.0123"]
    assert "kept 0.360 of the parameters, 0.340 were asked" in made.rows["prune"][-1]
    for record in full.records.values():
        for section in record.result.sections(full.metrics):
            assert section.title in made.page.sections
            for table in section.tables:
                for row in table.rows:
                    texts = [getattr(c, "text", str(c)) for c in row]
                    assert texts in made.page.rows
            for chart in section.charts:
                assert f"{record.name}: {chart.title}" in {c["aria-label"] for c in made.page.charts}


def test_a_run_without_anything_copes(written: Callable[..., Written], minimal: MadeRun) -> None:
    made = written(minimal)
    assert made.page.sections == ["In and out", "Stages", "To reproduce"]
    assert "no gates" in made.page.text
    assert made.page.charts == []
    assert made.figures["profile"] == {} and made.figures["shipped"] is None
    assert "Latency" not in made.markdown


@pytest.mark.parametrize(
    "stages",
    [("profile",), ("export", "profile"), ("prune",), ("sparsify",), ("quantize", "qad"), ("quantize",), ("decompose",),
     ("train", "sparsify", "distill", "qad")],
    ids=lambda stages: "_".join(stages),
)  # fmt: skip
def test_each_stage_may_be_missing(
    written: Callable[..., Written], full: MadeRun, stages: tuple[str, ...]
) -> None:
    made = written(full.without(*stages))
    assert made.page.open == []
    assert {"Stages", "To reproduce"} <= set(made.page.sections) <= set(SECTIONS)
    assert [s["name"] for s in made.figures["stages"]] == list(full.records)


def test_a_profile_without_operators_or_speedups(written: Callable[..., Written], full: MadeRun) -> None:
    made = written(full.first(operators=(), speedups=(), slower=(), reasons=()))
    assert "Latency on local" in made.page.sections
    assert "Where the time goes" not in made.page.text
    assert made.figures["out"]["speedup"] is None


def test_hostile_names_are_text(
    written: Callable[..., Written], full: MadeRun, pictures: list[Image], hostile: Callable[[str], int]
) -> None:
    full.overrides["name"], full.command = "<script>1</script>", "edgec '<script>2</script>'"
    records = {
        '"><img src=x onerror=alert(1)>': full.records.pop("train"),
        "</title></svg><script>3</script>": full.records["prune"],
    }
    full.records = {**{n: replace(r, name=n) for n, r in records.items()}, **full.records}
    pruned = full.records["prune"].result
    assert isinstance(pruned, PruneResult)
    bold = pruned.layers[0].model_copy(update={"name": "<b>bold</b>", "group": "<b>bold</b>"})
    full.change("prune", layers=(bold, *pruned.layers[1:]))
    full.first(reasons=("<em>",))
    made = written(full, pictures)
    assert hostile(made.html) == 0
    assert [tag for tag, _ in made.page.tags].count("script") == 1
    assert "em" not in {tag for tag, _ in made.page.tags}
    assert "<b>bold" not in made.html
    assert not any(name.startswith("on") for _, attrs in made.page.tags for name in attrs)
    assert "alert(1)" in made.page.text


def test_nothing_is_fetched(written: Callable[..., Written], full: MadeRun, pictures: list[Image]) -> None:
    made = written(full, pictures)
    for tag, attrs in made.page.tags:
        for name in ("src", "href", "data", "srcset", "action", "poster"):
            assert (attrs.get(name) or "data:").startswith(("data:", "#")), (tag, attrs)
    assert not re.search(r"(?:https?:)?//[a-z]|@import|url\(|fetch\(|XMLHttpRequest", made.html)
    assert "default-src 'none'" in made.html


def test_json_has_neither_nan_nor_infinity(written: Callable[..., Written], full: MadeRun) -> None:
    nan, inf = float("nan"), float("inf")
    trained = full.records["train"].result
    assert isinstance(trained, TrainResult)
    epochs = [e.model_dump() for e in trained.curves]
    epochs[2]["losses"]["box"], epochs[3]["losses"]["box"] = nan, inf
    stored = {"curves": epochs, "final": {"map50": nan, "map": 0.5}}
    full.records["train"] = replace(full.records["train"], result=TrainResult.model_validate(stored))
    exported = full.records["export"].result
    assert isinstance(exported, ExportResult)
    broken = exported.artifacts[INT8].model_dump() | {
        "val": {"map50": nan},
        "snr_db": nan,
        "drop_from_torch": nan,
    }
    full.change(
        "export",
        artifacts={**exported.artifacts, INT8: type(exported.artifacts[INT8]).model_validate(broken)},
    )
    made = written(full)
    stage, entry = made.figures["stages"][0], made.figures["artifacts"]["model.int8"]
    assert [stage["curves"][k]["losses"]["box"] for k in (1, 2, 3)] == [0.5, None, None]
    assert stage["final"] == {"map50": None, "map": 0.5}
    assert entry["val"] == {"map50": None} and entry["snr_db"] is entry["drop_from_torch"] is None
    assert made.figures["out"]["metric"] is None
    for text in (made.page.text, made.markdown):
        assert not re.search(r"\b(nan|inf|None)\b", text)
    assert not re.search(r'="-?(nan|inf)', made.html)


def test_page_and_markdown_have_the_same_tables(written: Callable[..., Written], full: MadeRun) -> None:
    made = written(full)
    cells = {c.strip() for row in made.page.rows for c in row}
    for line in made.markdown.splitlines():
        if line.startswith("| ") and "---" not in line:
            for text in re.split(r"(?<!\\)\|", line)[1:-1]:
                assert text.strip().replace("\\|", "|") in cells


def test_markdown_tables_are_even_and_pipes_escaped(written: Callable[..., Written], full: MadeRun) -> None:
    full.gates[0] = Verdict(promise="a | b\nc", limit=1, measured=1, kept=True)
    markdown = written(full).markdown
    assert "a \\| b c" in markdown
    blocks = [b.splitlines() for b in re.split(r"\n\n", markdown) if b.startswith("| ")]
    assert len(blocks) > 10
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block}) == 1
        assert set(block[1]) <= set("|- ")


def test_charts_have_names_for_those_who_cannot_see_them(
    written: Callable[..., Written], full: MadeRun, pictures: list[Image]
) -> None:
    made = written(full, pictures)
    page = made.page
    assert len(page.charts) > 15
    assert all(c["role"] == "img" and c["aria-label"] for c in page.charts)
    assert len({c["aria-label"] for c in page.charts}) == len(page.charts)
    assert made.html.count("<svg") == len(re.findall(r"<svg[^>]*><title>[^<]+</title>", made.html))
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")


def test_light_dark_and_small_screens(written: Callable[..., Written], full: MadeRun) -> None:
    made = written(full)
    html, page = made.html, made.page
    assert "prefers-color-scheme: dark" in html
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    light, dark = (
        {n for n in re.findall(r"(--[a-z0-9]+):#", block)}
        for block in re.findall(r":root \{(.*?)\}", html, re.S)
    )
    used = set(re.findall(r"var\((--[a-z0-9]+)\)", html))
    assert used <= light == dark
    wide = [attrs for tag, attrs in page.tags if tag == "table"]
    assert len(wide) == html.count('<div class="scroll"><table')  # a wide table scrolls alone


def test_gates_show_promise_limit_and_measurement(written: Callable[..., Written], full: MadeRun) -> None:
    rows = written(full).rows
    assert rows["map50 lost by model.int8 on val, at most"] == ["0.01", "0.0089", "kept"]
    assert rows["speed of model.int8 against dense fp32, 1 thread, at least"] == [
        "5",
        "4.19",
        "broken: prune more",
    ]
    assert rows["latency of model.int8 with 1 thread in ms, at most"][1] == "not measured"
    full.gates = full.gates[:1]
    assert "every gate kept" in written(full).page.text


@pytest.mark.parametrize(
    ("limit", "measured", "texts"),
    [(2_150_000.0, 2_150_998, ["2,150,000", "2,150,998"]), (32.2, 32.1996, ["32.2", "32.1996"])],
)
def test_a_gate_that_is_just_broken_shows_why(
    written: Callable[..., Written], full: MadeRun, limit: float, measured: float, texts: list[str]
) -> None:
    full.gates = [Verdict(promise="a promise", limit=limit, measured=measured, kept=False)]
    assert written(full).rows["a promise"][:2] == texts


def test_in_and_out_with_change(written: Callable[..., Written], full: MadeRun) -> None:
    rows = written(full).rows
    assert rows["parameters"] == ["5.92 M", "2.1 M", "-64.4 %"]
    assert rows["mAP 50, val"] == ["0.6123", "0.6034", "-0.89 points"]
    assert rows["mAP 50, test"] == ["0.6023", "0.5934", "-0.89 points"]
    assert rows["latency ms, 1 thread(s)"] == ["41.20 (40.38 to 42.44)", "9.83 (9.63 to 10.12)", "-76.1 %"]


def test_figures_of_batch_1_are_meant_wherever_they_stand(
    written: Callable[..., Written], full: MadeRun
) -> None:
    """The fixture's first case has batch 8: neither the gates' side nor the ways show it."""
    made = written(full)
    assert made.figures["profile"]["cells"][0]["batch"] == 8
    assert made.figures["out"]["latency"]["1"]["median_ms"] == 9.83
    assert made.rows["QAT (qad)"][-1] == "int8 9.83"


def test_the_same_figures_give_the_same_bytes(tmp_path: Path, full: MadeRun) -> None:
    for name in ("a", "b"):
        full.write(tmp_path / name)
    for suffix in ("html", "json", "md"):
        one, other = ((tmp_path / f"{name}/report.{suffix}").read_bytes() for name in ("a", "b"))
        assert one == other


def test_time_by_scale_group(written: Callable[..., Written], full: MadeRun) -> None:
    text = written(full).page.text
    assert "model.int8: ms by scale group, 1 thread" in text
    assert "dense.fp32: ms by scale group" not in text  # none of its operators is known by its layer
    assert "1.25 ms" in text  # other operators: 8.75 of all, 7.5 of the group


def test_time_by_operator_type_counts_every_operator(written: Callable[..., Written], full: MadeRun) -> None:
    assert "38.25 ms" in written(full).page.text


def with_accuracies(result: StageResult, accuracies: dict[str, Accuracy]) -> dict[str, Any]:
    """Updates that give the artifacts of an export other accuracies on val, and none on test."""
    assert isinstance(result, ExportResult)
    return {
        "artifacts": {
            artifact: entry.model_copy(
                update={"val": accuracies["dense" if artifact == DENSE else "model"], "test": None}
            )
            for artifact, entry in result.artifacts.items()
        }
    }


def test_another_task_has_its_own_metrics_units_and_sets(
    written: Callable[..., Written], full: MadeRun
) -> None:
    """Everywhere where the detector's mAP stands."""
    full.metrics = (Metric("psnr", "PSNR", "dB", 3), Metric("ssim", "SSIM"))
    accuracies: dict[str, Accuracy] = {}
    for name, loss in (("dense", 0.0), ("model", 0.12)):
        accuracies[name] = Accuracy.model_validate(
            {"psnr": 30.5 - loss, "ssim": 0.9 - 1e-4 * loss, "psnr/set5": 32.21 - loss, "psnr/set14": 28.582 - loss,
             "ssim/set5": 0.8948, "ssim/set14": 0.7811 - 0.002 * loss, "psnr/set5/bird": 34.0}
        )  # fmt: skip
    full.change("export", **with_accuracies(full.records["export"].result, accuracies))
    for stage in full.records:
        if stage != "profile":
            full.change(stage, final=Accuracy(values={"psnr": 30.5, "ssim": 0.9}))
    full.change("profile", conversions=())
    made = written(full.without("train").without("distill"))
    rows = made.rows
    assert rows["PSNR dB, val"] == ["30.500", "30.380", "-0.120 dB"]
    assert rows["PSNR dB, val, set5"] == ["32.210", "32.090", "-0.120 dB"]
    assert rows["SSIM, val"] == ["0.9000", "0.9000", "+0.0000"]
    assert rows["SSIM, val, set14"] == ["0.7811", "0.7809", "-0.0002"]
    assert not [name for name in rows if "bird" in name]  # single images stand in the JSON alone
    assert "PSNR dB test" not in made.markdown and made.figures["out"]["val"]["psnr/set5/bird"] == 34.0
    assert rows["sparsify"][:2] == ["30.500", "0.9000"]
    assert "mAP" not in made.markdown and "mAP" not in made.page.text


def test_one_set_alone_is_the_mean(written: Callable[..., Written], full: MadeRun) -> None:
    full.metrics = (Metric("psnr", "PSNR", "dB", 3),)
    alone = Accuracy.model_validate({"psnr": 30.0, "psnr/set5": 30.0})
    full.change("export", **with_accuracies(full.records["export"].result, {"dense": alone, "model": alone}))
    names = list(written(full).rows)
    assert "PSNR dB, val" in names
    assert not [name for name in names if "set5" in name]


def test_artifacts_of_a_fixed_tile_are_listed(written: Callable[..., Written], full: MadeRun) -> None:
    exported = full.records["export"].result
    assert isinstance(exported, ExportResult)
    tile = exported.artifacts[INT8].model_copy(update={"drop_from_torch": -0.00001})
    full.change("export", artifacts={**exported.artifacts, ArtifactId("model", "int8", "tile"): tile})
    assert "+0.0000" in written(full).rows["model.int8.tile"]  # zero has no minus
