"""Runs side by side: the front, warnings, and folders that cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgec.core.errors import RecipeError
from edgec.core.results.artifact_id import ArtifactId
from edgec.core.results.profile import Latency
from edgec.core.results.table import Marked
from edgec.report.compare import Entry, compare, front

MadeRun = Any  # of conftest.py


@pytest.fixture
def run(tmp_path: Path, full: MadeRun) -> Callable[..., Path]:
    """A finished run; `changes` are other keys of its report.json, None takes one away."""

    def make(name: str, **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        full.write(folder)
        stored = json.loads((folder / "report.json").read_text()) | changes
        stored = {key: value for key, value in stored.items() if value is not None}
        (folder / "report.json").write_text(json.dumps(stored))
        return folder

    return make


def entry(name: str, metric: float | None, ms: float | None) -> Entry:
    cell = None if ms is None else Latency(
        artifact=ArtifactId("model", "int8"), runtime="onnxruntime", threads=1, precision="int8", median_ms=ms, ci_low_ms=ms,
        ci_high_ms=ms, runs=1,
    )  # fmt: skip
    return Entry("run", name, metric, 0.5, 1, cell, None, True)


def test_the_front_is_what_nothing_beats_in_both() -> None:
    entries = [entry("slow", 0.9, 9.0), entry("worse", 0.6, 5.0), entry("fast", 0.5, 1.0), entry("good", 0.7, 4.0),
               entry("unmeasured", 0.99, None), entry("as_good", 0.7, 4.5)]  # fmt: skip
    assert front(entries) == ["run/fast", "run/good", "run/slow"]


def test_rows_hold_what_each_run_measured(run: Callable[..., Path], tmp_path: Path) -> None:
    found = compare([run("a"), run("b")], tmp_path / "out" / "page.html")
    rows = {(r[0], r[1]): r for r in found.artifacts.rows}
    assert {r[0] for r in found.artifacts.rows} == {"a", "b"}
    int8 = rows["a", "model.int8"]
    assert int8[2] == "0.6034" and int8[3] == "-0.89 points"
    assert int8[5] == "9.83" and str(int8[7]).startswith("4.19 x")
    assert int8[8] == Marked("broken", "bad")
    assert "a/model.int8" in found.front
    stored = json.loads(json.dumps(found.to_json()))
    assert stored["columns"][2] == "mAP 50" and stored["rows"][0][8] == {"text": "broken", "style": "bad"}
    page = (tmp_path / "out" / "page.html").read_text()
    assert "<svg" in page and "http" not in page.split("</style>")[1]
    assert "not quiet" in page


def test_reports_before_they_had_a_version_are_read(run: Callable[..., Path]) -> None:
    old = run("old", version=None)
    assert "version" not in json.loads((old / "report.json").read_text())
    assert {e.run for e in compare([old, run("new")]).entries} == {"old", "new"}


def test_names_that_runs_share_are_whole_paths(run: Callable[..., Path]) -> None:
    found = compare([run("x/run"), run("y/run")])
    assert len({e.run for e in found.entries}) == 2


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"data": "other"}, "different data"),
        ({"environment": {"edgec": "1", "cpu": "another"}}, "different CPUs"),
    ],
)
def test_what_cannot_be_compared_is_said(
    run: Callable[..., Path], changes: dict[str, Any], warning: str
) -> None:
    assert any(warning in w for w in compare([run("a"), run("b", **changes)]).warnings)


def test_all_wrong_folders_at_once(run: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "report.json").write_text("{")
    with pytest.raises(RecipeError) as raised:
        compare(
            [
                tmp_path / "gone",
                tmp_path / "torn",
                run("other", artifacts=None),
                run("a"),
                run("b", metric="psnr"),
            ]
        )
    assert len(raised.value.problems) == 4
    text = str(raised.value)
    assert "measures detection, psnr, val, not detection, map50, val" in text
    assert "No such file" in text and "artifacts: Field required" in text
