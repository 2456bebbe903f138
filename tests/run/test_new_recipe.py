"""`edgec init`: the format, the splits and the classes of a folder are found, and the recipe is valid."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.core.errors import DataError, RecipeError
from edgec.recipe import load
from edgec.run.new_recipe import write_recipe

XML = (
    "<annotation><object><name>{}</name><bndbox>"
    "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
)


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(path)


def voc(root: Path) -> None:
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for name, label in (("a", "cat"), ("b", "dog")):
        (root / "Annotations" / f"{name}.xml").write_text(XML.format(label), encoding="utf-8")
        image(root / "JPEGImages" / f"{name}.jpg")
    for split in ("train", "val", "test"):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("a\nb\n", encoding="utf-8")


def coco(root: Path) -> None:
    image(root / "images" / "train" / "a.png")
    (root / "annotations").mkdir()
    tree = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 2, "name": "dog"}, {"id": 1, "name": "cat"}],
    }
    (root / "annotations" / "instances_train.json").write_text(json.dumps(tree), encoding="utf-8")


def yolo(root: Path) -> None:
    for split in ("train", "val"):
        image(root / "images" / split / "a.png")
        (root / "labels" / split).mkdir(parents=True)
        (root / "labels" / split / "a.txt").write_text("1 0.5 0.5 0.2 0.2\n", encoding="utf-8")
    (root / "data.yaml").write_text("names: {0: cat, 1: dog}\n", encoding="utf-8")


@pytest.mark.parametrize("make", [voc, coco, yolo])
def test_each_format_is_recognized(make, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    make(tmp_path / "d")
    told = list(write_recipe(tmp_path / "d", tmp_path / "r.yaml"))
    recipe = load(tmp_path / "r.yaml")
    assert recipe.data.format == make.__name__
    assert recipe.data.classes == ("cat", "dog")  # type: ignore[union-attr]
    assert "2 classes" in told[0]


def test_nothing_is_overwritten_and_nothing_is_guessed(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("mine", encoding="utf-8")
    with pytest.raises(RecipeError, match="--force"):
        list(write_recipe(tmp_path, tmp_path / "r.yaml"))
    assert (tmp_path / "r.yaml").read_text(encoding="utf-8") == "mine"
    with pytest.raises(DataError, match="holds no data of the formats voc, coco, yolo, images"):
        list(write_recipe(tmp_path, tmp_path / "new.yaml"))


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (["."], {"train": ".", "val": "."}),
        (["train_HR", "valid_HR", "test"], {"train": "train_HR", "val": "valid_HR", "test": "test"}),
        (["a", "b"], {"train": "a", "val": "a"}),
    ],
)
def test_images_alone_are_for_super_resolution(
    folders: list[str], splits: dict[str, str], tmp_path: Path
) -> None:
    for folder in folders:
        image(tmp_path / "d" / folder / "x.png")
    told = list(write_recipe(tmp_path / "d", tmp_path / "r.yaml"))
    recipe = load(tmp_path / "r.yaml")
    assert recipe.task == "superres" and "super-resolution" in told[0]
    for split in ("train", "val", "test"):
        sets = getattr(recipe.data, split)
        assert (sets and str(sets["images"].hr)) == splits.get(split)
