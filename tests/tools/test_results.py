"""Measured figures: typed files under docs/results/, and the page that is made from them."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import results_file  # noqa: E402
import results_page  # noqa: E402
from results_schema import Figure, Results  # noqa: E402

FILES = sorted((ROOT / "docs" / "results").glob("*.json"))
DAY = datetime.date(2026, 11, 25)
LATER = datetime.date(2026, 12, 1)


def topic(*figures: Figure) -> Results:
    return Results(
        title="A topic", order=1, date=DAY, command="python tools/bench_x.py", data="drawn images", seeds=(0, 1),
        versions={"numpy": "1.0"}, machine="a computer", figures=figures,
    )  # fmt: skip


def test_the_page_is_what_the_files_render_to() -> None:
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == results_page.page(), (
        "run python tools/results_page.py"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_file_is_valid_and_written_as_the_helper_writes_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert results_file.as_text(Results.model_validate_json(text)) == text


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_no_figure_stands_twice_in_a_file(path: Path) -> None:
    places = [f.place for f in Results.model_validate_json(path.read_text(encoding="utf-8")).figures]
    assert len(places) == len(set(places))


def test_a_cell_shows_digits_unit_interval_and_note(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = (
        Figure(row="int8", column="speed-up", value=4.2, digits=2, low=4, high=4.42, note="busy"),
        Figure(row="int8", column="latency", value=1234.5, digits=1, unit="ms"),
        Figure(row="fp32", column="latency", value=None, note="refused", date=DAY),
    )
    (tmp_path / "x.json").write_text(results_file.as_text(topic(*figures)), encoding="utf-8")
    monkeypatch.setattr(results_page, "FILES", tmp_path)
    page = results_page.page()
    assert "| | speed-up | latency |\n| --- | ---: | ---: |\n" in page
    assert "| int8 | 4.20 (4.00 to 4.42; busy) | 1,234.5 ms |\n" in page
    assert "| fp32 |  | refused; of 2026-11-25 |" in page
    assert "drawn images; seeds 0, 1. a computer, 2026-11-25; numpy 1.0." in page


def test_figures_that_were_not_measured_again_keep_their_day() -> None:
    old = topic(Figure(row="a", column="x", value=1), Figure(row="b", column="x", value=2))
    new = results_file.updated(
        old, [Figure(row="b", column="x", value=3), Figure(row="c", column="x", value=4)], LATER
    )
    assert [(f.row, f.value, f.date) for f in new.figures] == [("a", 1, DAY), ("b", 3, None), ("c", 4, None)]
    assert new.date == LATER and new.versions["numpy"] != "1.0" and new.machine == results_file.machine()


def test_finish_prints_one_json_line_and_writes_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "x.json"
    text = results_file.as_text(topic(Figure(row="a", column="x", value=1)))
    place.write_text(text, encoding="utf-8")
    monkeypatch.setattr(results_file, "FILES", tmp_path)
    monkeypatch.setattr(results_page, "FILES", tmp_path)
    monkeypatch.setattr(results_file, "PAGE", tmp_path / "page.md")
    figures = [Figure(row="a", column="x", value=5, digits=1)]
    results_file.finish("x", figures, write=False)
    assert place.read_text(encoding="utf-8") == text and not (tmp_path / "page.md").exists()
    line = json.loads(capsys.readouterr().out)
    assert line == {"name": "x", "figures": [{"row": "a", "column": "x", "value": 5.0, "digits": 1}]}
    results_file.finish("x", figures, write=True)
    assert "| a | 5.0 |" in (tmp_path / "page.md").read_text(encoding="utf-8")


def test_a_key_that_the_schema_does_not_know_is_an_error() -> None:
    with pytest.raises(ValidationError, match="colum"):
        Figure.model_validate({"row": "a", "colum": "x", "value": 1})


@pytest.mark.parametrize("tool", sorted(p.name for p in (ROOT / "tools").glob("bench_*.py")))
def test_every_benchmark_has_the_option_write_and_ends_through_the_helper(tool: str) -> None:
    text = (ROOT / "tools" / tool).read_text(encoding="utf-8")
    assert "add_write(parser)" in text and "finish(" in text


def test_write_is_off_by_default() -> None:
    parser = argparse.ArgumentParser()
    results_file.add_write(parser)
    assert parser.parse_args([]).write is False and parser.parse_args(["--write"]).write is True
