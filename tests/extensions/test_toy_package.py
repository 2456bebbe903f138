"""A package that brings one of each: its recipe loads, plans and runs without a line changed in edgec."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

import edgec
from edgec.core import extensions
from edgec.core.errors import ExtensionError, RecipeError
from edgec.core.runtimes import RUNTIMES
from edgec.recipe import Profile, load
from edgec.recipe.stage_results import result_of_json
from edgec.recipe.stages import STAGES
from edgec.recipe.tables import TABLES
from edgec.run.doctor import report
from edgec.run.new_recipe import write_recipe
from edgec.run.pipeline import compress
from edgec.run.plan import plan
from edgec.runtimes import convert as converters
from edgec.runtimes.artifact import contract_of, open_artifact, write_artifact

HERE = Path(__file__).parent
RECIPE: dict[str, Any] = {
    "name": "toy",
    "task": "brightness",
    "data": {"format": "noise", "images": 4},
    "network": {"arch": "toy_edgec.network:build", "args": {"width": 4}},
    "stages": {
        "train": {"epochs": 1, "batch": 4},
        "nudge": {"by": 0.25},
        "distill": {
            "epochs": 1,
            "batch": 4,
            "terms": [{"kind": "difference", "taps": ["act"], "power": 2.0}],
        },
        "export": {"precisions": ["fp32"]},
        "profile": {
            "runtimes": ["onnxruntime", "copied"],
            "threads": [1],
            "processes": 1,
            "warmup_seconds": 0,
            "min_seconds": 0.01,
            "max_seconds": 0.05,
        },
    },
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The two packages, as if they were installed."""
    for name in ("toy", "broken"):
        monkeypatch.syspath_prepend(str(HERE / name))
    importlib.invalidate_caches()
    extensions.forget()
    yield
    for name in [n for n in sys.modules if n.partition(".")[0] in ("toy_edgec", "broken_edgec")]:
        del sys.modules[name]
    monkeypatch.undo()
    extensions.forget()


def test_names_are_known_and_nothing_is_imported_for_it(installed: None) -> None:
    names = {table.group: table.names() for table in TABLES}
    assert "brightness" in names["edgec.tasks"]
    assert "noise" in names["edgec.data"]
    assert {"nudge", "shatter"} <= set(names["edgec.stages"])
    assert "difference" in names["edgec.distillers"]
    assert "copied" in names["edgec.runtimes"]
    assert names["edgec.stages"].count("prune") == 1
    assert not any(name.startswith(("toy_edgec", "broken_edgec")) for name in sys.modules)


def test_a_recipe_of_all_five_loads_and_comes_back(installed: None) -> None:
    recipe = load(RECIPE)
    assert type(recipe.stages["nudge"]).__name__ == "Nudge"
    tree = recipe.model_dump(mode="json")
    assert tree["stages"]["nudge"] == {"kind": "nudge", "by": 0.25}
    assert tree["data"] == {"format": "noise", "images": 4}
    assert tree["stages"]["distill"]["terms"][0]["power"] == 2.0
    assert load(tree) == recipe


def test_what_is_wrong_in_a_packages_part_is_named_by_its_place(installed: None) -> None:
    wrong = {
        **RECIPE,
        "stages": {"nudge": {"by": "much", "bye": 1}},
        "data": {"format": "noise", "images": 0},
    }
    with pytest.raises(RecipeError) as error:
        load(wrong)
    places = [problem.place.split()[-1] for problem in error.value.problems]
    assert [place.rpartition(":")[2] for place in places] == [
        "data.images",
        "stages.nudge.by",
        "stages.nudge.bye",
    ]


def test_the_plan_and_the_run(installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEC_STORE", str(tmp_path / "store"))
    lines = list(plan(RECIPE, allow_code=True))
    assert any("brightness" in line for line in lines)
    assert any("nudge: nudge, to do" in line for line in lines)
    assert "         every bias grows by 0.25" in lines
    run = compress(RECIPE, run=tmp_path / "run", allow_code=True)
    report_names = [stage["name"] for stage in _report(run.folder)["stages"]]
    assert report_names == ["input", *RECIPE["stages"]]
    assert _metrics(run.folder, "02-nudge")["nudged"] == 2
    assert "difference/act" in json.dumps(_metrics(run.folder, "03-distill"))
    profiled = _metrics(run.folder, "05-profile")
    assert [(c["runtime"], c["passed"]) for c in profiled["conversions"]] == [("copied", True)] * 2
    assert {cell["runtime"] for cell in profiled["cells"]} == {"onnxruntime", "copied"}
    assert _report(run.folder)["stages"][2]["flags"] == ["2 biases nudged"]
    page = run.report.read_text(encoding="utf-8")
    assert "Nudges" in page and "Nudged parameters" in page
    again = compress(RECIPE, run=tmp_path / "again", allow_code=True)
    cached = {stage["name"]: stage["cached"] for stage in _report(again.folder)["stages"]}
    assert cached["nudge"] and cached["distill"] and not cached["profile"]


def test_artifacts_are_measured_by_the_contract_of_the_packages_task(
    installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEC_STORE", str(tmp_path / "store"))
    stages = {"train": RECIPE["stages"]["train"], "export": {"precisions": ["fp32"]}}
    run = compress({**RECIPE, "stages": stages}, run=tmp_path / "run", allow_code=True)
    artifact = run.artifacts / "model.fp32.onnx"
    exported = _metrics(run.folder, "02-export")["artifacts"]["model.fp32"]["val"]
    assert edgec.evaluate(artifact, RECIPE)["model.fp32"]["score"] == exported["score"]
    model = onnx.load(artifact)
    contract = contract_of(open_artifact(artifact), "model.fp32.onnx")
    assert type(contract).__name__ == "BrightnessContract"
    tree = contract.to_json()
    wrong = contract.changed(input={**tree["input"], "scale": 10.0})
    write_artifact(tmp_path / "wrong.onnx", model, wrong)
    assert edgec.evaluate(tmp_path / "wrong.onnx", RECIPE)["wrong"]["score"] != exported["score"]
    config = load(RECIPE).stages["profile"]
    assert isinstance(config, Profile)
    result = edgec.profile(artifact, config=config)
    assert {cell.runtime for cell in result.first.cells} == {"onnxruntime", "copied"}


def test_runtimes_of_packages_are_offered_and_say_what_they_need(installed: None) -> None:
    assert "copied" in converters.installed()[0]
    assert RUNTIMES.row("copied").install == "toy-edgec"
    assert RUNTIMES.row("ncnn").install == "'edgec[ncnn]'"
    rows = {row.what: row.found for row in report()}
    assert rows["optional: toy-edgec"] == "1.0"
    with pytest.raises(RecipeError, match=r"choose from onnxruntime, .*copied"):
        edgec.profile(Path(__file__), runtimes=["copies"])


def test_init_finds_the_data_of_a_package_and_writes_its_recipe(installed: None, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "noise.txt").write_text("6")
    lines = list(write_recipe(tmp_path / "data", tmp_path / "new.yaml"))
    assert lines[0] == f"found noise data in {tmp_path / 'data'}: 6 images of noise"
    recipe = load(tmp_path / "new.yaml")
    assert recipe.task == "brightness" and recipe.data.model_dump() == {"format": "noise", "images": 6}


def _report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def _metrics(folder: Path, stage: str) -> dict[str, Any]:
    return json.loads((folder / "stages" / stage / "metrics.json").read_text())


def test_the_result_of_a_packages_stage_has_its_type(installed: None) -> None:
    assert type(result_of_json("nudge", {"nudged": 2})).__name__ == "NudgeResult"


def test_a_package_that_fails_at_import_is_named_and_the_rest_works(installed: None) -> None:
    with pytest.raises(RecipeError, match=r"broken-edgec 0\.3.*ModuleNotFoundError: No module named 'a_lib"):
        load({**RECIPE, "stages": {"shatter": {}}})
    assert load(RECIPE).name == "toy"
    assert STAGES.row("prune").function == "edgec.stages.prune:prune"


def test_what_is_not_a_row_is_named(installed: None) -> None:
    terms = RECIPE["stages"]["distill"] | {"terms": [{"kind": "wrong"}]}
    with pytest.raises(RecipeError, match="distiller 'wrong' of an installed package is a str, not a Dist"):
        load({**RECIPE, "stages": {"distill": terms}})


def test_the_doctor_has_a_row_for_each(installed: None) -> None:
    rows = {row.what: row for row in report() if row.what.startswith("extension")}
    assert rows["extension: task brightness"].found == "works, of toy-edgec 1.0"
    assert rows["extension: runtime copied"].remedy == ""
    assert rows["extension: stage shatter"].found == "broken, of broken-edgec 0.3"
    assert "a_library_that_is_not_installed" in rows["extension: stage shatter"].remedy
    assert "edgec has a stage of that name" in rows["extension: stage prune"].remedy
    assert "AttributeError" in rows["extension: distiller nothing"].remedy


def test_a_name_of_two_packages_is_refused(
    installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "other_edgec-2.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other-edgec\nVersion: 2.0\n")
    (metadata / "entry_points.txt").write_text("[edgec.stages]\nnudge = other:NUDGE\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    extensions.forget()
    with pytest.raises(ExtensionError, match=r"'nudge' of edgec\.stages is declared by .* and .*; uninstall"):
        STAGES.row("nudge")
