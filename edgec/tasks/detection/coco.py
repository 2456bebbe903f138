"""COCO instances: one JSON file and one folder of images a split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgec.errors import DataError, Problem
from edgec.tasks.detection.samples import Object, Raw, inside

MAX_BYTES = 1 << 30


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError([Problem(str(path), f"{path.stat().st_size} bytes", f"at most {MAX_BYTES} are read")])
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError([Problem(str(path), f"cannot be read ({error.strerror})", "check the path")]) from None
    except (ValueError, RecursionError) as error:
        raise DataError([Problem(str(path), f"is no JSON ({error})", "write it again")]) from None
    missing = [k for k in ("images", "annotations", "categories") if not isinstance(tree, dict) or not isinstance(tree.get(k), list)]
    if missing:
        raise DataError([Problem(str(path), f"lacks the lists {', '.join(missing)}", "give COCO instances")])
    return tree


def coco_classes(path: Path) -> tuple[str, ...]:
    """The category names of a file, in the order of their ids."""
    categories = _load(path)["categories"]
    try:
        return tuple(str(c["name"]) for c in sorted(categories, key=lambda c: c["id"]))
    except (KeyError, TypeError) as error:
        raise DataError([Problem(f"{path} categories", f"an entry lacks {error}", "give id and name")]) from None


def read_coco(images: Path, annotations: Path) -> tuple[list[Raw], list[Problem]]:
    """The images of an annotation file and every problem of its entries. `iscrowd` counts as difficult."""
    tree = _load(annotations)
    problems: list[Problem] = []
    names = {c.get("id"): str(c.get("name")) for c in tree["categories"] if isinstance(c, dict)}
    known = {i.get("id") for i in tree["images"] if isinstance(i, dict)}
    objects: dict[Any, list[Object]] = {}
    for index, item in enumerate(tree["annotations"]):
        place = f"{annotations} annotations[{index}]"
        try:
            x, y, w, h = (float(v) for v in item["bbox"])
            image, category, crowd = item["image_id"], item["category_id"], bool(item.get("iscrowd", 0))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problems.append(Problem(place, f"is malformed ({error})", "give image_id, category_id and bbox [x, y, w, h]"))
            continue
        if image not in known:
            problems.append(Problem(place, f"image_id {image!r} is not in the list of images", "add the image"))
            continue
        name = names.get(category, f"category {category!r}")
        objects.setdefault(image, []).append(Object(place, name, (x, y, x + w, y + h), crowd))
    raws: list[Raw] = []
    for index, item in enumerate(tree["images"]):
        place = f"{annotations} images[{index}]"
        try:
            path = inside(images, str(item["file_name"]), place)
            size = (int(item["height"]), int(item["width"])) if "height" in item and "width" in item else None
            raws.append(Raw(str(item["file_name"]), path, objects.get(item["id"], []), place, size))
        except DataError as error:
            problems += error.problems
        except (KeyError, TypeError, ValueError) as error:
            problems.append(Problem(place, f"is malformed ({error})", "give id, file_name, width and height"))
    return raws, problems
