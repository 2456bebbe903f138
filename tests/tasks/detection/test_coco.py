"""COCO instances, good and bad."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgec.core.errors import DataError, Problem
from edgec.tasks.detection.coco import coco_classes, read_coco
from edgec.tasks.detection.samples import Sample, check_samples

Write = Callable[..., Path]
CLASSES = ("cat", "dog")


def tree(**changes: Any) -> dict[str, Any]:
    """Two images, two categories with gaps in their ids, two boxes on the first image."""
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": 40, "width": 60},
            {"id": 3, "file_name": "sub/b.jpg", "height": 40, "width": 60},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 5, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [10, 5, 20, 30], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 5, "bbox": [0, 0, 60, 40], "iscrowd": 1},
        ],
    } | changes


def load(root: Path, content: dict[str, Any] | str, photo: Write) -> tuple[list[Sample], list[Problem]]:
    photo(root / "images" / "a.jpg")
    photo(root / "images" / "sub" / "b.jpg")
    path = root / "instances.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    raws, problems = read_coco(root / "images", path)
    samples, more = check_samples(raws, CLASSES)
    return samples, [*problems, *more]


def test_boxes_categories_and_crowds(tmp_path: Path, photo: Write):
    samples, problems = load(tmp_path, tree(), photo)
    assert problems == [] and [s.name for s in samples] == ["a.jpg", "sub/b.jpg"]
    assert samples[0].boxes.tolist() == [[10, 5, 30, 35], [0, 0, 60, 40]]
    assert samples[0].labels.tolist() == [1, 0]
    assert samples[0].difficult.tolist() == [False, True]
    assert len(samples[1].boxes) == 0


def test_classes_come_in_the_order_of_their_ids(tmp_path: Path):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(tree()))
    assert coco_classes(path) == ("cat", "dog")


def annotation(**changes: Any) -> dict[str, Any]:
    good = {"image_id": 7, "category_id": 5, "bbox": [1, 1, 9, 9]} | changes
    return {k: v for k, v in good.items() if v != "absent"}


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (annotation(bbox=[1, 1, 0.5, 9]), "is empty"),
        (annotation(bbox=[1, 1, -9, 9]), "is empty"),
        (annotation(bbox=[30, 1, 31.5, 9]), "outside the image of 60 x 40"),
        (annotation(bbox=[-2, 1, 9, 9]), "outside the image of 60 x 40"),
        (annotation(bbox=[1, 1, 9]), "is malformed"),
        (annotation(bbox=[1, 1, 9, "x"]), "is malformed"),
        (annotation(bbox=None), "is malformed"),
        (annotation(bbox="absent"), "is malformed"),
        (annotation(category_id="absent"), "is malformed"),
        (annotation(category_id=99), "category 99"),
        (annotation(image_id=99), "image_id 99 is not in the list of images"),
        ("text", "is malformed"),
        (None, "is malformed"),
    ],
)
def test_a_bad_object_is_named(tmp_path: Path, photo: Write, item: Any, words: str):
    samples, problems = load(tmp_path, tree(annotations=[annotation(), item]), photo)
    assert len(problems) == 1 and problems[0].place.endswith("instances.json annotations[1]")
    assert words in problems[0].message and problems[0].remedy
    assert len(samples[0].boxes) == 1


@pytest.mark.parametrize(
    "item", [annotation(image_id=[7]), annotation(category_id={}), annotation(bbox=[1, 1, 10**400, 9])]
)
def test_values_of_a_wrong_type_are_named(tmp_path: Path, photo: Write, item: Any):
    samples, problems = load(tmp_path, tree(annotations=[annotation(), item]), photo)
    assert [p.place.rsplit(" ", 1)[1] for p in problems] == ["annotations[1]"]
    assert len(samples[0].boxes) == 1


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"id": 1, "file_name": "gone.jpg"}, "gone.jpg: cannot be read"),
        ({"id": 1, "file_name": "../instances.json"}, "is outside"),
        ({"id": 1, "file_name": "/etc/passwd"}, "is outside"),
        ({"id": 1, "file_name": "a\0.jpg"}, "is outside"),
        ({"id": 1, "file_name": "a.jpg", "height": 60, "width": 40}, "says 40 x 60, the image has 60 x 40"),
        ({"id": 1, "file_name": "a.jpg", "height": "x", "width": 40}, "is malformed"),
        ({"id": 1}, "is malformed"),
        ({"file_name": "a.jpg"}, "is malformed"),
        ("a.jpg", "is malformed"),
    ],
)
def test_a_bad_image_is_named(tmp_path: Path, photo: Write, item: Any, words: str):
    content = tree(images=[tree()["images"][0], item])
    samples, problems = load(tmp_path, content, photo)
    assert [s.name for s in samples] == ["a.jpg"] and len(problems) == 1
    assert words in str(problems[0])


@pytest.mark.parametrize("changes", [{"id": [1]}, {"height": float("inf")}])
def test_an_image_with_values_of_a_wrong_type_is_named(tmp_path: Path, photo: Write, changes: Any):
    item = {"id": 1, "file_name": "a.jpg", "height": 40, "width": 60} | changes
    samples, problems = load(tmp_path, tree(images=[tree()["images"][0], item]), photo)
    assert [s.name for s in samples] == ["a.jpg"] and len(problems) == 1
    assert problems[0].place.endswith("images[1]")


def test_two_images_of_one_id_are_named(tmp_path: Path, photo: Write):
    """Each would be given the other's boxes."""
    twins = [{"id": 7, "file_name": "a.jpg"}, {"id": 7, "file_name": "sub/b.jpg"}]
    _, problems = load(tmp_path, tree(images=twins), photo)
    assert [p.place.rsplit(" ", 1)[1] for p in problems] == ["images[1]"]


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, photo: Write):
    outside = photo(tmp_path / "outside.jpg")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "link.jpg").symlink_to(outside)
    samples, problems = load(tmp_path, tree(images=[{"id": 7, "file_name": "link.jpg"}]), photo)
    assert samples == [] and "is outside" in problems[0].message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not valid JSON"),
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "lacks the lists images, annotations, categories"),
        ('{"images": [], "categories": {}}', "lacks the lists annotations, categories"),
    ],
)
def test_what_is_not_a_coco_file_is_named(tmp_path: Path, photo: Write, text: str, words: str):
    with pytest.raises(DataError, match=words):
        load(tmp_path, text, photo)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"gone\.json: cannot be read"):
        read_coco(tmp_path, tmp_path / "gone.json")


def test_a_category_without_name_is_named(tmp_path: Path):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(tree(categories=[{"id": 1}])))
    with pytest.raises(DataError, match="categories: an entry lacks 'name'"):
        coco_classes(path)
