"""report.json keeps the keys that it had before its parts were typed, and two reports are compared but for times."""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgec.report.model import Report

GOLDEN = Path(__file__).parent / "golden" / "detector.json"  # of a run of edgec 0.1.0, with fewer rows
TOOL = Path(__file__).parents[2] / "tools" / "compare_reports.py"
MadeRun = Any  # of conftest.py


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("compare_reports", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def differences(tool: Any) -> Callable[[Any, Any], list[str]]:
    return lambda before, after: list(tool.differences(before, after))


@pytest.fixture
def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def keys_of(tree: Any, place: str = "") -> set[str]:
    """Every path of keys; rows of a list share one."""
    if isinstance(tree, dict):
        below = {path for key, value in tree.items() for path in keys_of(value, f"{place}.{key}")}
        return below | {f"{place}.{key}" for key in tree}
    if isinstance(tree, list):
        return {path for row in tree for path in keys_of(row, f"{place}[]")}
    return set()


def test_the_types_hold_every_figure_of_an_earlier_report(golden: dict[str, Any]) -> None:
    stored = Report.model_validate(golden).model_dump(mode="json")

    def check(before: Any, after: Any, place: str) -> None:
        if isinstance(before, dict):
            for key in before:
                check(before[key], after[key], f"{place}.{key}")
        elif isinstance(before, list):
            assert len(before) == len(after), place
            for one, other in zip(before, after, strict=True):
                check(one, other, f"{place}[]")
        else:
            assert (type(before), before) == (type(after), after), place

    check(golden, stored, "")


def test_a_run_of_today_has_every_key_of_an_earlier_report(
    golden: dict[str, Any], full: MadeRun, tmp_path: Path
) -> None:
    full.write(tmp_path)
    today = keys_of(json.loads((tmp_path / "report.json").read_text()))
    named = (
        "ap50/",
        ".environment.",
        ".losses.",
        ".operators.",
        ".operator_types.",
        ".fusion.",
        ".artifacts.",
        "model.",
        "fp16",
    )
    before = {key for key in keys_of(golden) if not any(part in key for part in named)}
    shared = {"images", "objects", "map50_11point"}  # counts and metrics of the run itself
    missing = {key for key in before - today if key.rpartition(".")[2] not in shared | {"cause"}}
    assert missing <= {
        ".quantized.equalised.snr_db_before",
        ".quantized.equalised.snr_db_after",
        ".profile.fusion",
    }, missing


def test_a_report_equals_itself_and_may_have_more_and_other_times(
    golden: dict[str, Any], differences: Callable[[Any, Any], list[str]]
) -> None:
    after = copy.deepcopy(golden)
    after["version"], after["seconds"], after["date"] = 1, 1.0, "another day"
    after["stages"][0]["new"] = 5
    after["profile"]["cells"][0]["median_ms"] *= 2
    after["profile"]["speedups"][0]["ratio"] = 9.0
    after["profile"]["speedups"].append(after["profile"]["speedups"][0] | {"artifact": "model.int8.tile"})
    after["profile"]["slower"] = []
    after["profile"]["operator_types"]["dense.fp32"]["Conv"] = 77.0
    after["profile"]["operators"]["dense.fp32"].reverse()
    after["stages"][2]["flags"] = ["slows model.fp32 to 0.90 x dense.fp32 with 1 thread(s)"]
    speed = next(gate for gate in after["gates"] if gate["promise"].startswith("speed"))
    speed["measured"], speed["kept"], after["kept"] = 9.0, not speed["kept"], not after["kept"]
    assert differences(golden, golden) == differences(golden, after) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda r: r.pop("gamma"), "gamma: "),
        (lambda r: r["dense"]["val"].update(map50=0.5), "dense.val.map50: "),
        (lambda r: r["stages"].pop(2), "stages[prune]: "),
        (lambda r: r["artifacts"]["model.int8"].update(bytes=1), "artifacts.model.int8.bytes: "),
        (lambda r: r["profile"]["cells"].pop(0), "profile.cells[dense.fp32 onnxruntime 1 1]: "),
        (
            lambda r: r["profile"]["operator_types"]["dense.fp32"].pop("Conv"),
            "profile.operator_types.dense.fp32[",
        ),
        (
            lambda r: r["gates"][0].update(measured=0.5),
            "gates[mAP 50 lost by model.int8 on val, at most].measured: ",
        ),
        (lambda r: r["stages"][2]["flags"].append("something new"), "stages[prune].flags: "),
        (lambda r: r["prunings"][0]["layers"][0].update(at_floor=0), "prunings[prune].layers["),
        (lambda r: r["gamma"]["before"].append(3), "gamma.before: 4 entries, now 5"),
        (lambda r: r["quantized"]["weights"][0].update(huffman_bits=6.722000001), "quantized.weights["),
        (lambda r: r.update(network="f" * 64), "network: "),
    ],
)
def test_what_is_not_a_time_is_a_difference(
    golden: dict[str, Any],
    differences: Callable[[Any, Any], list[str]],
    change: Callable[[Any], Any],
    line: str,
) -> None:
    after = copy.deepcopy(golden)
    change(after)
    found = differences(golden, after)
    assert found and all(each.startswith(line) for each in found), found


def test_the_command_tells_by_its_exit_code(
    tool: Any,
    golden: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "report.json").write_text(json.dumps(golden | {"seed": 99}))
    for after, code, text in (
        (GOLDEN, 0, ""),
        (run, 1, "seed: 7, now 99\n".replace("7", str(golden["seed"]))),
    ):
        monkeypatch.setattr("sys.argv", ["compare_reports.py", str(GOLDEN), str(after)])
        assert tool.main() == code
        assert capsys.readouterr().out == text
