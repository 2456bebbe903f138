"""A run's folder: one process at a time, the next number for another, a manifest of each file."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgec.core.errors import RecipeError
from edgec.core.events import Events, RunEnded
from edgec.recipe import load
from edgec.run.rundir import RunDir

RECIPE = {
    "name": "r", "task": "detection", "data": {"format": "signs"}, "network": {"arch": "yolov4_tiny"}, "stages": {"prune": {}},
}  # fmt: skip


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    first = RunDir.choose(load(RECIPE), tmp_path / "run")
    message = rf"run: another run works in this folder \(process {os.getpid()}\)"
    with pytest.raises(RecipeError, match=message):
        RunDir.choose(load(RECIPE), tmp_path / "run")
    first.close()
    RunDir.choose(load(RECIPE), tmp_path / "run").close()


def test_an_unfinished_run_is_taken_up_and_a_finished_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load(RECIPE)
    first = RunDir.choose(recipe, None)
    first.begin(recipe)
    first.close()
    again = RunDir.choose(recipe, None)
    assert again.folder == first.folder
    again.finish({})
    again.close()
    following = RunDir.choose(recipe, None)
    assert following.folder.name == "r-2"
    following.close()


def test_a_run_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x", encoding="utf-8")
    with pytest.raises(RecipeError, match="is a file"):
        RunDir.choose(load(RECIPE), tmp_path / "f")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "artifacts").mkdir(parents=True)
    (mine / "artifacts" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(RecipeError, match="not a run's folder"):
        RunDir.choose(load("detector.yaml"), mine)
    assert (mine / "artifacts" / "thesis.txt").exists()

    run = RunDir.choose(load("detector.yaml"), tmp_path / "run")
    run.begin(load("detector.yaml"))
    run.close()
    RunDir.choose(load("detector.yaml"), tmp_path / "run").close()  # the same recipe again
    with pytest.raises(RecipeError, match="another recipe"):
        RunDir.choose(load("signs_dense.yaml"), tmp_path / "run")


def test_the_same_recipe_started_twice_at_once_takes_the_next_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load(RECIPE)
    first = RunDir.choose(recipe, None)
    early = RunDir.choose(recipe, None)  # before the first has written its recipe
    first.begin(recipe)
    early.begin(recipe)
    late = RunDir.choose(recipe, None)
    assert [run.folder.name for run in (first, early, late)] == ["r-1", "r-2", "r-3"]
    late.begin(recipe)
    first.close()
    resumed = RunDir.choose(recipe, None)  # the two after it are at work
    assert resumed.folder.name == "r-1"
    for run in (early, late, resumed):
        run.close()


def test_processes_that_start_at_the_same_moment_take_numbers_of_their_own(tmp_path: Path) -> None:
    program = (
        "import sys; from edgec.recipe import load; from edgec.run.rundir import RunDir\n"
        f"recipe = load({RECIPE!r}); print('ready', flush=True); sys.stdin.readline()\n"
        "run = RunDir.choose(recipe, None); run.begin(recipe); print(run.folder.name, flush=True); sys.stdin.readline()"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    names: list[str] = []
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert process.stdout
        names.append(process.stdout.readline().strip())
    for process in processes:
        process.communicate("end\n")
    assert sorted(names) == ["r-1", "r-2", "r-3", "r-4"]


def test_the_manifest_has_the_sha256_of_each_file_and_of_the_events_to_the_last(tmp_path: Path) -> None:
    run = RunDir.choose(load(RECIPE), tmp_path / "run")
    run.begin(load(RECIPE))
    events = Events(run.folder / "events.jsonl")
    (run.folder / "artifacts").mkdir()
    (run.folder / "artifacts" / "manifest.json").write_text("{}", encoding="utf-8")
    run.finish({"seed": 1})
    events.emit(RunEnded("done"))
    events.close()
    run.close()
    manifest = json.loads((run.folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["seed"] == 1
    assert manifest["files"] == {
        name: hashlib.sha256((run.folder / name).read_bytes()).hexdigest()
        for name in ("artifacts/manifest.json", "events.jsonl", "recipe.yaml")
    }
    assert {path.name for path in run.folder.iterdir()} - set(manifest["files"]) == {
        "artifacts", ".lock", "manifest.json",
    }  # fmt: skip
