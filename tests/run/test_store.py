"""The store: whole entries or none, verified; it says what changed."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgec.core.files
from edgec.core.errors import RecipeError, StorageError
from edgec.core.files import write_atomic
from edgec.core.network import Network
from edgec.recipe import load
from edgec.run.code_version import code_version
from edgec.run.rundir import RunDir
from edgec.run.store import Result, Store, key_of

NETWORK = Network.initial("yolov4_tiny", {"classes": 1, "width": 0.25}, 0)
PARTS = {"config": {"epochs": 3, "lr": 0.1}, "seed": 1}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def filled(tmp_path: Path, store: Store) -> str:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_text("a", encoding="utf-8")
    key = key_of(PARTS)
    store.put(key, PARTS, Result(NETWORK, {"x": 1.5}, tmp_path / "out"))
    return key


def test_what_goes_in_comes_out(tmp_path: Path, store: Store) -> None:
    result = store.get(filled(tmp_path, store))
    assert result is not None
    assert result.network.digest == NETWORK.digest and result.metrics == {"x": 1.5}
    assert (result.files / "a.txt").read_text(encoding="utf-8") == "a"
    assert store.get("0" * 64) is None


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "metrics.json", "files/a.txt", "network.json", "entry.json"]
)
def test_damage_anywhere_is_found(tmp_path: Path, store: Store, name: str) -> None:
    key = filled(tmp_path, store)
    path = store.root / key / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(StorageError):
        store.get(key)


def test_a_crash_before_the_rename_leaves_nothing(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        filled(tmp_path, store)
    monkeypatch.undo()
    assert store.get(key_of(PARTS)) is None
    assert not list(store.root.glob(".staging-*"))


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_atomic(path, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(edgec.core.files.os, "fsync", full)
    with pytest.raises(StorageError, match="no space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["f"]


def test_it_explains_what_changed(store: Store) -> None:
    assert store.explain("s", PARTS) == "not run before"
    assert store.explain("s", PARTS) == "not finished before"
    assert "lr: 0.1 -> 0.2" in store.explain("s", PARTS | {"config": {"epochs": 3, "lr": 0.2}})
    assert "seed" in store.explain("s", PARTS | {"seed": 2, "config": {"epochs": 3, "lr": 0.2}})


def test_keys_depend_on_every_part() -> None:
    assert len(key_of(PARTS)) == 64
    assert key_of(PARTS) == key_of(dict(reversed(PARTS.items())))
    assert key_of(PARTS) != key_of(PARTS | {"seed": 2})


def test_code_versions_follow_imports_of_imports() -> None:
    train = code_version(["edgec.stages.train"])
    assert train == code_version(["edgec.stages.train"]) != code_version(["edgec.stages.prune"])
    assert code_version(["edgec.cli.main"]) != code_version(["edgec.cli.progress"])


RECIPE = {
    "name": "r", "task": "detection", "data": {"format": "signs"}, "network": {"arch": "yolov4_tiny"}, "stages": {"prune": {}},
}  # fmt: skip


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    first = RunDir.choose(load(RECIPE), tmp_path / "run")
    with pytest.raises(RecipeError, match="another run"):
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
