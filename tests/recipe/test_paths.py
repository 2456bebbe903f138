"""Paths are found by the types of the schema, whatever a set or stage is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgec.core.errors import RecipeError
from edgec.recipe import CocoData, Distill, FolderData, Recipe, load

SUPERRES: dict[str, Any] = {
    "name": "r", "task": "superres", "network": {"arch": "imdn"}, "stages": {"train": {"epochs": 1}},
    "data": {"format": "images", "root": "set", "train": "HR", "val": {"a": "HR"}},
}  # fmt: skip


def written(folder: Path, text: str) -> Path:
    path = folder / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def superres(folder: Path, data: str, *overrides: str) -> FolderData:
    head = "name: r\ntask: superres\nnetwork: {arch: imdn}\nstages: {train: {epochs: 1}}\n"
    data_of = load(written(folder, f"{head}data: {{format: images, root: set, {data}}}\n"), overrides).data
    assert isinstance(data_of, FolderData)
    return data_of


@pytest.mark.parametrize("name", ["images", "annotations", "set5"])
def test_a_set_of_any_name_starts_at_the_root(tmp_path: Path, name: str) -> None:
    data = superres(tmp_path, f"train: {{{name}: HR}}, val: {{{name}: {{hr: HR, lr: LR/x4}}}}")
    assert data.root == tmp_path / "set"
    assert data.train[name].hr == Path("HR")
    assert data.val[name].hr == Path("HR") and data.val[name].lr == Path("LR/x4")


def test_variables_in_folders_of_images_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEC_DATA", "/data")
    data = superres(tmp_path, "train: $EDGEC_DATA/HR, val: {a: {hr: '${EDGEC_DATA}/HR', lr: $EDGEC_DATA/LR}}")
    assert data.train["images"].hr == data.val["a"].hr == Path("/data/HR")
    assert data.val["a"].lr == Path("/data/LR")


def test_every_variable_that_is_not_set_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEC_NONE", raising=False)
    with pytest.raises(RecipeError) as told:
        superres(tmp_path, "train: $EDGEC_NONE/HR, val: {a: {hr: HR, lr: $EDGEC_NONE/LR}}")
    assert [problem.message for problem in told.value.problems] == ["the variable EDGEC_NONE is not set"] * 2
    assert [problem.place.partition("r.yaml")[2] for problem in told.value.problems] == [
        ":5 data.train.images.hr", ":5 data.val.a.lr",
    ]  # fmt: skip


def test_paths_of_overrides_start_at_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    data = superres(tmp_path, "train: HR, val: HR", "data.root=other", "data.val=$HOME/HR")
    assert data.root == tmp_path / "here" / "other"
    assert data.val["images"].hr == Path("~/HR").expanduser()


def test_teachers_and_annotations_start_at_the_recipe(tmp_path: Path) -> None:
    recipe = load(
        written(
            tmp_path,
            "name: r\ntask: detection\nnetwork: {arch: yolov4_tiny, weights: w.safetensors}\n"
            "data:\n  format: coco\n  train: {images: i, annotations: a.json}\n  val: {images: i, annotations: b.json}\n"
            "stages: {own: {kind: distill, epochs: 1, teacher: t}, dense: {kind: distill, epochs: 1, teacher: dense}}\n",
        )
    )
    assert isinstance(recipe.data, CocoData)
    assert recipe.data.train.annotations == tmp_path / "a.json" and recipe.data.val.images == tmp_path / "i"
    assert recipe.network.weights == tmp_path / "w.safetensors"
    own, dense = recipe.stages["own"], recipe.stages["dense"]
    assert isinstance(own, Distill) and own.teacher == tmp_path / "t"
    assert isinstance(dense, Distill) and dense.teacher == "dense"


def test_a_resolved_recipe_reads_back_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load(SUPERRES)
    assert load(recipe.model_dump(mode="json")) == recipe == Recipe.model_validate(recipe.model_dump())
