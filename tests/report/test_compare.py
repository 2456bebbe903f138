"""Runs side by side: the front, warnings, and folders that cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgec.core.errors import RecipeError
from edgec.report.compare import Entry, compare, front


@pytest.fixture
def run(tmp_path: Path, full: dict[str, Any]) -> Callable[..., Path]:
    def make(name: str, **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps(full | changes))
        return folder

    return make


def entry(name: str, metric: float | None, ms: float | None) -> Entry:
    cell = None if ms is None else {"median_ms": ms}
    return Entry("run", name, metric, 0.5, 1, cell, None, True)


def test_the_front_is_what_nothing_beats_in_both() -> None:
    entries = [entry("slow", 0.9, 9.0), entry("worse", 0.6, 5.0), entry("fast", 0.5, 1.0), entry("good", 0.7, 4.0),
               entry("unmeasured", 0.99, None), entry("as_good", 0.7, 4.5)]  # fmt: skip
    assert front(entries) == ["run/fast", "run/good", "run/slow"]


def test_rows_hold_what_each_run_measured(run: Callable[..., Path], tmp_path: Path) -> None:
    found = compare([run("a"), run("b")], tmp_path / "out" / "page.html")
    rows = {(r[0], r[1]): r for r in found["rows"]}
    assert set(r[0] for r in found["rows"]) == {"a", "b"}
    int8 = rows["a", "model.int8"]
    assert int8[2] == "0.6034" and int8[3] == "-0.89 points"
    assert int8[7].startswith("4.19 x")
    assert int8[8]["text"] == "broken"
    assert "a/model.int8" in found["front"]
    page = (tmp_path / "out" / "page.html").read_text()
    assert "<svg" in page and "http" not in page.split("</style>")[1]
    assert "not quiet" in page


def test_names_that_runs_share_are_whole_paths(run: Callable[..., Path]) -> None:
    found = compare([run("x/run"), run("y/run")])
    assert len({r[0] for r in found["rows"]}) == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data": "other"}, "different data"),
        ({"environment": {"edgec": "1", "cpu": "another"}}, "different CPUs"),
    ],
)
def test_what_cannot_be_compared_is_said(
    run: Callable[..., Path], changes: dict[str, Any], told: str
) -> None:
    assert any(told in w for w in compare([run("a"), run("b", **changes)])["warnings"])


def test_all_wrong_folders_at_once(run: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "report.json").write_text("{")
    with pytest.raises(RecipeError) as raised:
        compare([tmp_path / "gone", tmp_path / "torn", run("a"), run("b", metric="psnr")])
    assert len(raised.value.problems) == 3
    assert "measures detection, psnr, val, not detection, map50, val" in str(raised.value)
