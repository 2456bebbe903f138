"""The cache key holds all code behind a result: the user's modules and what they import, the distillers in use, libraries."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edgec.run.code_version
from edgec.core.events import Events
from edgec.core.network import Network
from edgec.recipe import Recipe, load
from edgec.run.code_version import code_behind, code_version
from edgec.run.keys import key_parts
from edgec.run.state import RunContext, RunState
from edgec.run.store import Store, key_of
from edgec.run.task import make_task

NETWORK = Network.initial("yolov4_tiny", {"classes": 1, "width": 0.25}, 0)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, whose modules the user wrote."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


def write(folder: Path, **modules: str) -> None:
    for name, text in modules.items():
        path = folder / f"{name.replace('__', '/', 1) if not name.startswith('__') else name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    importlib.invalidate_caches()
    edgec.run.code_version._first_read.clear()  # as in a new process


def recipe_of(stage: dict[str, Any]) -> Recipe:
    return load(
        {"name": "r", "task": "detection", "network": {"arch": "yolov4_tiny"}, "stages": {"s": stage},
         "data": {"format": "signs", "train": 2, "val": 2, "input": [64, 64], "photograph_size": 64}}
    )  # fmt: skip


def context_of(recipe: Recipe) -> RunContext:
    return RunContext(recipe, make_task(recipe, None), Store(Path("unused")), Events())


def parts_of(stage: dict[str, Any], network: Network = NETWORK) -> dict[str, Any]:
    recipe = recipe_of(stage)
    return key_parts(recipe.stages["s"], context_of(recipe), RunState(network, network))


def key(stage: dict[str, Any], network: Network = NETWORK) -> str:
    return key_of(parts_of(stage, network))


def distill(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "distill", "epochs": 1, "terms": list(terms)}


def test_versions_follow_imports_of_imports() -> None:
    train = code_version(["edgec.stages.train"])
    assert train == code_version(["edgec.stages.train"]) != code_version(["edgec.stages.prune"])
    assert "edgec.training.soap" in code_behind(["edgec.stages.train"]).files
    assert "edgec.env" in code_behind(["edgec.stages.train"]).files
    assert "edgec.tasks.predictor" in code_behind(["edgec.stages.train"]).files


def test_a_change_of_an_own_distiller_changes_the_key_of_its_stage_alone(own: Path) -> None:
    write(own, far="def distance(s, t): return (s - t).abs().mean()")
    with_own, without = distill({"kind": "custom", "function": "far:distance"}), distill({"kind": "logits"})
    before = key(with_own), key(without)
    write(own, far="def distance(s, t): return (s - t).square().mean()")
    assert key(with_own) != before[0]
    assert key(without) == before[1]


def test_helpers_of_an_own_architecture_count_however_deep_and_however_imported(own: Path) -> None:
    write(
        own,
        net__main="from .layers import conv\nimport outside\ndef make(): ...",
        net____init__="",
        net__layers="def conv():\n    from net import deep\n    return deep.VALUE",
        net__deep="VALUE = 1",
        outside="import json\nVALUE = 1",
        apart="VALUE = 1",
    )
    network = Network("net.main:make", weights=NETWORK.weights)
    keys = [key({"kind": "prune"}, network)]
    for change in ({"net__deep": "VALUE = 2"}, {"outside": "VALUE = 2"}, {"net____init__": "SEED = 1"}):
        write(own, **change)
        keys.append(key({"kind": "prune"}, network))
    assert len(set(keys)) == 4
    write(own, apart="VALUE = 2", net__deep="VALUE = 2  # a comment\n\n")
    assert key({"kind": "prune"}, network) == keys[-1]
    assert not {"net", "net.main", "outside"} & set(sys.modules), "asking for a version runs nobody's code"


def test_a_file_edited_while_it_runs_counts_once_it_is_loaded_again(own: Path) -> None:
    write(own, loaded="A = 1")
    module = importlib.import_module("loaded")
    running = code_version(["loaded"])
    (own / "loaded.py").write_text("A = 2000", encoding="utf-8")
    assert code_version(["loaded"]) == running
    importlib.reload(module)
    assert module.A == 2000 and code_version(["loaded"]) != running


def test_an_own_stage_counts_with_its_helpers(own: Path) -> None:
    write(own, stage="import helper\ndef run(config, network, env): ...", helper="A = 1")
    stage = {"kind": "custom", "function": "stage:run"}
    before = key(stage)
    write(own, helper="A = 2")
    assert key(stage) != before


def test_one_edited_distiller_makes_stale_only_the_stages_that_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = {
        "pkd": distill({"kind": "pkd"}),
        "cwd": distill({"kind": "cwd"}),
        "both": distill({"kind": "cwd"}, {"kind": "pkd"}),
        "qad": {"kind": "qad", "epochs": 1, "terms": [{"kind": "pkd"}]},
        "train": {"kind": "train", "epochs": 1},
    }
    recipe = load(
        {"name": "r", "task": "detection", "network": {"arch": "yolov4_tiny"},
         "stages": {"quantize": {}, **stages},
         "data": {"format": "signs", "train": 2, "val": 2, "input": [64, 64], "photograph_size": 64}}
    )  # fmt: skip
    context, state = context_of(recipe), RunState(NETWORK, NETWORK)

    def keys() -> dict[str, str]:
        return {n: key_of(key_parts(recipe.stages[n], context, state)) for n in stages}

    before = keys()
    path = edgec.run.code_version._path_of
    edited = tmp_path / "pkd.py"
    original = path("edgec.distillers.pkd")
    assert original is not None
    edited.write_text(original.read_text(encoding="utf-8") + "\nEDITED = 1\n", encoding="utf-8")
    monkeypatch.setattr(
        edgec.run.code_version,
        "_path_of",
        lambda name: edited if name == "edgec.distillers.pkd" else path(name),
    )
    after = keys()
    assert {name for name in stages if before[name] != after[name]} == {"pkd", "both", "qad"}


@pytest.mark.parametrize(
    "library", ["torch", "numpy", "onnx", "onnxscript", "onnxruntime", "opencv-python-headless"]
)
def test_a_new_version_of_a_library_changes_the_key(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = {"kind": "export"}
    before = parts_of(stage)
    assert before["libraries"][library] == importlib.metadata.version(library)
    version = edgec.run.code_version._version
    monkeypatch.setattr(
        edgec.run.code_version, "_version", lambda name: "99.0" if name == library else version(name)
    )
    assert key_of(parts_of(stage)) != key_of(before)


def test_a_stage_names_only_the_libraries_that_it_uses(own: Path) -> None:
    assert "torch-pruning" in parts_of({"kind": "prune"})["libraries"]
    assert not {"torch-pruning", "onnxruntime", "rich"} & set(
        parts_of({"kind": "train", "epochs": 1})["libraries"]
    )
    elsewhere = parts_of({"kind": "quantize", "backend": "neural-compressor"})["libraries"]
    here = parts_of({"kind": "quantize"})["libraries"]
    assert set(elsewhere) - set(here) <= {"neural-compressor", "neural-compressor-pt"}
    write(own, stage="import yaml\ndef run(config, network, env): ...")
    assert "PyYAML" in parts_of({"kind": "custom", "function": "stage:run"})["libraries"]


def test_an_installed_package_that_the_recipe_names_counts_by_version_and_files() -> None:
    code = code_behind(["yaml.nodes"])
    assert not code.files
    (version,) = code.versions().values()
    assert version.startswith(f"{importlib.metadata.version('PyYAML')} ")
