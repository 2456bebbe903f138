"""The report's three files: whole, the same figures in each, safe to open, content with missing parts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.report.write import write

Data = dict[str, Any]
VOID = {"meta", "link", "img", "br", "hr", "input", "line", "rect", "circle", "polyline"}
HOSTILE = '<script>alert("x")</script>'
SECTIONS = [
    "Gates", "In and out", "Stages", "Artifacts", "Latency on local",
    f"Latency on phone {HOSTILE}", "Pictures", "Channels", "Training",
    "Ways to fewer bits", "Sensitivity to int8", "Weights of few bits", "Notes", "To reproduce",
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


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., tuple[Page, str, Data, str]]:
    """Writes a report: the page taken apart, its text, the JSON, the Markdown."""

    def go(data: Data, pictures: list[dict[str, str]] | None = None) -> tuple[Page, str, Data, str]:
        write(tmp_path, data, pictures or [])
        page, figures, text = (
            (tmp_path / f"report.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "json", "md")
        )
        return Page(page), page, json.loads(figures, parse_constant=pytest.fail), text

    return go


def test_a_full_run_has_every_section(
    written: Callable[..., Any], full: Data, pictures: list[dict[str, str]]
) -> None:
    page, html, _, markdown = written(full, pictures)
    assert page.sections == SECTIONS
    assert page.open == []
    assert "a gate is broken" in page.text
    assert "every gate kept" not in page.text
    for told in ("4.19 x", "0.6034", "41.20 (40.38 to 42.44)", "busy: ratios only", "load average 3.8 on 2 cores",
                 "19 of 21 wanted", "slower than before: Conv, Concat", "5,918,006", "2,150,998", "420",
                 "model.fp16 is slower than model.fp32", "41.0 % after", "head.out", "its output is read by Sigmoid",
                 "0.5888", "34.0", "1,234,567", "3.21 x (3.10 to 3.30)", "segfault", "governor unavailable",
                 "A phone", "23.50", "150.25", "nothing listens there",
                 "trained with the rounding (qad)", "-0.27 points", "-1.23 points", "900,123", "dddddddddddddddd",
                 "seed 5"):  # fmt: skip
        assert told in page.text, told
    assert f"data:image/jpeg;base64,{pictures[0]['base64']}" in html
    for told in ("4.19 x", "0.6034", "41.20 (40.38 to 42.44)", "**a gate is broken**", "| train | 0.5932 |"):
        assert told in markdown, told


def test_a_run_without_anything_copes(written: Callable[..., Any], minimal: Data) -> None:
    page, _, figures, markdown = written(minimal)
    assert page.sections == ["In and out", "Stages", "To reproduce"]
    assert "no gates" in page.text
    assert page.charts == []
    assert figures["profile"] == {}
    assert "Latency" not in markdown


@pytest.mark.parametrize(
    "missing",
    [
        {"profile": {}, "threads": []},
        {"profile": None, "threads": []},
        {"gamma": None},
        {"prunings": []},
        {"quantized": {}},
        {"quantized": None},
        {"artifacts": {}, "shipped": None},
        {"rounded": []},
        {"gates": [], "kept": True},
        {"notes": []},
        {"stages": []},
    ],
    ids=lambda m: "_".join(m),
)
def test_each_part_may_be_missing(written: Callable[..., Any], full: Data, missing: Data) -> None:
    page, _, _, _ = written(full | missing)
    assert page.open == []
    assert {"Stages", "To reproduce"} <= set(page.sections)
    assert len(page.sections) <= len(SECTIONS)


def test_a_profile_without_operators_or_speedups(written: Callable[..., Any], full: Data) -> None:
    for part in ("operators", "operator_types", "speedups", "slower", "reasons"):
        del full["profile"][part]
    page, _, _, _ = written(full)
    assert "Latency on local" in page.sections
    assert "Where the time goes" not in page.text


def test_hostile_names_are_text(
    written: Callable[..., Any], full: Data, pictures: list[dict[str, str]], hostile: Callable[[str], int]
) -> None:
    full |= {"recipe": "<script>1</script>", "command": "edgec '<script>2</script>'"}
    full["stages"][0]["name"] = '"><img src=x onerror=alert(1)>'
    full["prunings"][0]["layers"][0]["name"] = full["prunings"][0]["layers"][0]["group"] = "<b>bold</b>"
    full["profile"]["operators"]["<i>"] = [{"name": "<u>", "type": "<s>", "ms": 1.0, "share": 0.5}]
    full["profile"]["reasons"] = ["<em>"]
    full["prunings"][0]["stage"] = "</title></svg><script>3</script>"
    page, html, _, _ = written(full, pictures)
    assert hostile(html) == 0
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not {"u", "s", "em"} & {tag for tag, _ in page.tags}
    assert "<b>bold" not in html and "<i>:" not in html
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "alert(1)" in page.text


def test_nothing_is_fetched(written: Callable[..., Any], full: Data, pictures: list[dict[str, str]]) -> None:
    page, html, _, _ = written(full, pictures)
    for tag, attrs in page.tags:
        for name in ("src", "href", "data", "srcset", "action", "poster"):
            assert (attrs.get(name) or "data:").startswith(("data:", "#")), (tag, attrs)
    assert not re.search(r"(?:https?:)?//[a-z]|@import|url\(|fetch\(|XMLHttpRequest", html)
    assert "default-src 'none'" in html


def test_json_has_neither_nan_nor_infinity(written: Callable[..., Any], full: Data) -> None:
    full["stages"][0]["curves"][2]["losses"]["box"] = float("nan")
    full["stages"][1]["curves"][-1]["losses"]["box"] = float("inf")
    full["stages"][2]["final"]["map50"] = float("nan")
    full["gates"][0]["measured"] = np.float64("nan")
    full["artifacts"]["model.fp32"]["val"]["map50"] = float("nan")
    page, html, figures, markdown = written(full)
    assert figures["stages"][0]["curves"][2]["losses"]["box"] is None
    assert figures["stages"][1]["curves"][-1]["losses"]["box"] is None
    assert figures["gates"][0]["measured"] is None
    assert figures["stages"][0]["curves"][1]["losses"]["box"] == 0.5
    for text in (page.text, markdown):
        assert not re.search(r"\b(nan|inf|None)\b", text)
    assert not re.search(r'="-?(nan|inf)', html)
    assert "not measured" in page.text


def test_the_json_is_what_was_given(written: Callable[..., Any], full: Data) -> None:
    _, _, figures, _ = written(full)
    assert figures == full


def test_page_and_markdown_have_the_same_tables(written: Callable[..., Any], full: Data) -> None:
    page, _, _, markdown = written(full)
    rows = [
        [c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in markdown.splitlines()
        if line.startswith("| ") and "---" not in line
    ]
    assert len(rows) > 20
    shown = [[c.strip() for c in row] for row in page.rows]
    for row in rows:
        assert row in shown


def test_markdown_tables_are_even_and_pipes_escaped(written: Callable[..., Any], full: Data) -> None:
    full["stages"][4]["flags"] = ["a | b\nc"]
    _, _, _, markdown = written(full)
    assert "a \\| b c" in markdown
    blocks = [b.splitlines() for b in re.split(r"\n\n", markdown) if b.startswith("| ")]
    assert len(blocks) == 10
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block}) == 1
        assert set(block[1]) <= set("|- ")


def test_charts_have_names_for_those_who_cannot_see_them(written: Callable[..., Any], full: Data) -> None:
    page, html, _, _ = written(full)
    assert len(page.charts) == 17
    assert all(c["role"] == "img" and c["aria-label"] for c in page.charts)
    assert len({c["aria-label"] for c in page.charts}) == len(page.charts)
    assert html.count("<svg") == len(re.findall(r"<svg[^>]*><title>[^<]+</title>", html))
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")


def test_light_dark_and_small_screens(written: Callable[..., Any], full: Data) -> None:
    page, html, _, _ = written(full)
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


def test_gates_show_promise_limit_and_measurement(written: Callable[..., Any], full: Data) -> None:
    page, _, _, _ = written(full)
    assert ["map50 lost by model.int8 on val, at most", "0.01", "0.0089", "kept"] in page.rows
    assert [
        "speed of model.int8 against dense fp32, 1 thread, at least", "5", "4.19", "broken: prune more",
    ] in page.rows  # fmt: skip
    assert page.rows[3][2] == "not measured"
    kept, _, _, _ = written(full | {"kept": True})
    assert "every gate kept" in kept.text


def test_in_and_out_with_change(written: Callable[..., Any], full: Data) -> None:
    rows = {row[0]: row[1:] for row in written(full)[0].rows if row}
    assert rows["parameters"] == ["5.92 M", "2.1 M", "-64.4 %"]
    assert rows["mAP 50, val"] == ["0.6123", "0.6034", "-0.89 points"]
    assert rows["mAP 50, test"] == ["0.6023", "0.5934", "-0.89 points"]
    assert rows["latency ms, 1 thread(s)"][2] == "-76.1 %"


def test_the_same_figures_give_the_same_bytes(tmp_path: Path, full: Data) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, full, [])
    for suffix in ("html", "json", "md"):
        assert (tmp_path / f"a/report.{suffix}").read_bytes() == (
            tmp_path / f"b/report.{suffix}"
        ).read_bytes()


def test_a_gate_on_bytes_is_told_to_the_byte(written: Callable[..., Any], full: Data) -> None:
    full["gates"] = [
        {
            "promise": "bytes of model.int8, at most",
            "limit": 2150000.0,
            "measured": 2150998,
            "kept": False,
            "remedy": "",
        }
    ]
    row = next(r for r in written(full)[0].rows if r[0].startswith("bytes of"))
    assert [c.replace(",", "") for c in row[1:3]] == ["2150000", "2150998"]


def test_time_by_scale_group(written: Callable[..., Any], full: Data) -> None:
    text = written(full)[0].text
    assert "model.int8: ms by scale group, 1 thread" in text
    assert "dense.fp32: ms by scale group" not in text  # none of its operators is known by its layer
    assert "1.25 ms" in text  # other operators: 8.75 of all, 7.5 of the group


def test_time_by_operator_type_counts_every_operator(written: Callable[..., Any], full: Data) -> None:
    assert "38.25 ms" in written(full)[0].text


@pytest.mark.parametrize("place", ["snr_db", "drop_from_torch"])
def test_an_artifact_with_a_figure_missing(written: Callable[..., Any], full: Data, place: str) -> None:
    full["artifacts"]["model.int8"][place] = float("nan")
    assert "Artifacts" in written(full)[0].sections


def test_numpys_numbers_are_numbers(written: Callable[..., Any], full: Data) -> None:
    full["stages"][0]["curves"][0]["losses"]["box"] = np.float32(0.5)
    full["dense"]["bytes"] = np.int64(7)
    figures = written(full)[2]
    assert figures["stages"][0]["curves"][0]["losses"]["box"] == 0.5
    assert figures["dense"]["bytes"] == 7


def test_another_task_has_its_own_metrics_units_and_sets(written: Callable[..., Any], full: Data) -> None:
    """Everywhere where the detector's mAP stands."""
    full["metric"] = "psnr"
    full["metrics"] = [
        {"name": "psnr", "title": "PSNR", "unit": "dB", "digits": 3, "share": False},
        {"name": "ssim", "title": "SSIM", "unit": "", "digits": 4, "share": False},
    ]
    for name, loss in (("dense", 0.0), ("out", 0.12)):
        figures = {"psnr": 30.5 - loss, "ssim": 0.9 - 1e-4 * loss, "psnr/set5": 32.21 - loss, "psnr/set14": 28.582 - loss,
                   "ssim/set5": 0.8948, "ssim/set14": 0.7811 - 0.002 * loss, "psnr/set5/bird": 34.0}  # fmt: skip
        full[name] = full[name] | {"val": figures, "test": None, "metric": 30.5 - loss}
    for entry in full["artifacts"].values():
        entry["val"], entry["test"] = full["out"]["val"], None
    for stage in full["stages"]:
        if "final" in stage:
            stage["final"] = {"psnr": 30.5, "ssim": 0.9}
    page, _, figures, markdown = written(full)
    rows = {row[0]: row[1:] for row in page.rows if row}
    assert rows["PSNR dB, val"] == ["30.500", "30.380", "-0.120 dB"]
    assert rows["PSNR dB, val, set5"] == ["32.210", "32.090", "-0.120 dB"]
    assert rows["SSIM, val"] == ["0.9000", "0.9000", "+0.0000"]
    assert rows["SSIM, val, set14"] == ["0.7811", "0.7809", "-0.0002"]
    assert not [name for name in rows if "bird" in name]  # single images stand in the JSON alone
    assert "PSNR dB test" not in markdown and figures["out"]["val"]["psnr/set5/bird"] == 34.0
    assert rows["train"][:2] == ["30.500", "0.9000"]
    assert "mAP" not in markdown and "mAP" not in page.text


def test_one_set_alone_is_the_mean(written: Callable[..., Any], full: Data) -> None:
    full["metrics"] = [{"name": "psnr", "title": "PSNR", "unit": "dB", "digits": 3, "share": False}]
    for side in ("dense", "out"):
        full[side]["val"] = full[side]["test"] = {"psnr": 30.0, "psnr/set5": 30.0}
    names = [row[0] for row in written(full)[0].rows if row]
    assert {"PSNR dB, val", "PSNR dB, test"} <= set(names)
    assert not [name for name in names if "set5" in name]


def test_artifacts_of_a_fixed_tile_are_listed(written: Callable[..., Any], full: Data) -> None:
    full["artifacts"]["model.int8.tile"] = full["artifacts"]["model.int8"] | {"drop_from_torch": -0.00001}
    rows = {row[0]: row for row in written(full)[0].rows if row and row[0] == "model.int8.tile"}
    assert "+0.0000" in rows["model.int8.tile"]  # zero has no minus


def test_a_gate_that_is_just_broken_shows_why(written: Callable[..., Any], full: Data) -> None:
    full["gates"][0] |= {"limit": 32.2, "measured": 32.1996}
    assert written(full)[0].rows[1][1:3] == ["32.2", "32.1996"]
