"""COCO instances: one JSON file and one folder of images a split."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from edgec.core.errors import DataError, Problem
from edgec.core.frozen import json_object
from edgec.images.reading import inside
from edgec.recipe import CocoData, CocoSplit
from edgec.tasks.detection.format import DetectionFormat, Found
from edgec.tasks.detection.samples import Object, Raw

MAX_BYTES = 1 << 30


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(
                [Problem(str(path), f"{path.stat().st_size} bytes", f"at most {MAX_BYTES} are read")]
            )
        tree = json_object(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(
            [Problem(str(path), f"cannot be read ({error.strerror})", "check the path")]
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError([Problem(str(path), f"is not valid JSON ({error})", "write it again")]) from None
    lists = ("images", "annotations", "categories")
    missing = [k for k in lists if tree is None or not isinstance(tree.get(k), list)]
    if tree is None or missing:
        raise DataError([Problem(str(path), f"lacks the lists {', '.join(missing)}", "give COCO instances")])
    return tree


def _id(value: Any) -> int | str:
    """An id; other JSON values cannot be one."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"{value!r} is not an id")
    return value


def coco_classes(path: Path) -> tuple[str, ...]:
    """The category names of a file, in the order of their ids."""
    categories = _load(path)["categories"]
    try:
        return tuple(str(c["name"]) for c in sorted(categories, key=lambda c: c["id"]))
    except (KeyError, TypeError) as error:
        raise DataError(
            [Problem(f"{path} categories", f"an entry lacks {error}", "give id and name")]
        ) from None


def _with_id(items: list[Any]) -> list[dict[str, Any]]:
    """The entries that have an id; the others are named where they are read, or by those that refer to them."""
    entries = [json_object(item) for item in items]
    return [e for e in entries if e is not None and isinstance(e.get("id"), int | str)]


def read_coco(images: Path, annotations: Path) -> tuple[list[Raw], list[Problem]]:
    """The images of an annotation file and every problem of its entries. `iscrowd` counts as difficult."""
    tree = _load(annotations)
    problems: list[Problem] = []
    names = {c["id"]: str(c.get("name")) for c in _with_id(tree["categories"])}
    known = {i["id"] for i in _with_id(tree["images"])}
    objects: dict[Any, list[Object]] = {}
    for index, item in enumerate(tree["annotations"]):
        place = f"{annotations} annotations[{index}]"
        try:
            x, y, w, h = (float(v) for v in item["bbox"])
            image, category, crowd = (
                _id(item["image_id"]),
                _id(item["category_id"]),
                bool(item.get("iscrowd", 0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            problems.append(
                Problem(place, f"is malformed ({error})", "give image_id, category_id and bbox [x, y, w, h]")
            )
            continue
        if image not in known:
            problems.append(
                Problem(place, f"image_id {image!r} is not in the list of images", "add the image")
            )
            continue
        name = names.get(category, f"category {category!r}")
        objects.setdefault(image, []).append(Object(place, name, (x, y, x + w, y + h), crowd))
    raws: list[Raw] = []
    seen: set[int | str] = set()
    for index, item in enumerate(tree["images"]):
        place = f"{annotations} images[{index}]"
        try:
            key = _id(item["id"])
            if key in seen:
                raise ValueError(f"id {key!r} comes twice")
            path = inside(images, str(item["file_name"]), place)
            size = (int(item["height"]), int(item["width"])) if "height" in item and "width" in item else None
            raws.append(Raw(str(item["file_name"]), path, objects.get(key, []), place, size))
            seen.add(key)
        except DataError as error:
            problems += error.problems
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            problems.append(Problem(place, f"is malformed ({error})", "give id, file_name, width and height"))
    return raws, problems


def _read(data: CocoData, split: str) -> Found:
    named: CocoSplit = getattr(data, split)
    raws, problems = read_coco(named.images, named.annotations)
    return Found(raws, problems=problems)


def _classes(data: CocoData) -> tuple[str, ...]:
    """As the recipe says; else all categories of the training file."""
    return data.classes or coco_classes(data.train.annotations)


COCO = DetectionFormat(_read, _classes)


def find_coco(root: Path) -> dict[str, JsonValue] | None:
    """The keys of `data` where a folder is laid out as COCO: annotations/*.json named after splits."""
    splits: dict[str, dict[str, JsonValue]] = {}
    classes: list[str] = []
    files = sorted((root / "annotations").glob("*.json"))
    for split in ("train", "val", "test"):
        file = next((f for f in files if split in f.stem), None)
        folders = [p for p in (*sorted(root.iterdir()), *sorted((root / "images").glob("*"))) if p.is_dir()]
        folder = next((p for p in folders if split in p.name), root / "images")
        if file is None or not folder.is_dir():
            continue
        splits[split] = {"images": str(folder.absolute()), "annotations": str(file.absolute())}
        if not classes:
            try:
                tree = json.loads(file.read_text(encoding="utf-8"))
                classes = [c["name"] for c in sorted(tree["categories"], key=lambda c: c["id"])]
            except (ValueError, KeyError, TypeError):
                return None
    if "train" not in splits:
        return None
    splits.setdefault("val", copy.deepcopy(splits["train"]))  # YAML would write the same object as an alias
    return {"format": "coco", "classes": [*classes], **splits}
