"""YOLO txt: a line `class cx cy w h` an object, in shares of the image; labels/ mirrors images/."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import JsonValue

from edgec.core.errors import DataError, Problem
from edgec.images.reading import inside, is_image, read_image
from edgec.recipe import YoloData
from edgec.tasks.detection.format import DetectionFormat, Found
from edgec.tasks.detection.samples import Object, Raw

LOOKED_AT = 2000  # label files read to find the classes


def read_yolo(root: Path, split: str) -> tuple[list[Raw], list[Problem]]:
    """The images of a folder (or of a list file) under `root`, and every problem of their labels."""
    place = inside(root, split, "data")
    problems: list[Problem] = []
    images: list[Path] = []
    if place.is_dir():
        images = sorted(p for p in place.rglob("*") if is_image(p))
    elif place.is_file():
        for number, line in enumerate(place.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if not line.strip():
                continue
            try:
                images.append(inside(root, line.strip(), f"{place}:{number}"))
            except DataError as error:
                problems += error.problems
    else:
        raise DataError(
            [Problem(str(place), "is neither a folder nor a list file", "check data.root and the split")]
        )
    raws: list[Raw] = []
    for path in images:
        try:
            raws.append(_read_one(root, path))
        except DataError as error:
            problems += error.problems
    return raws, problems


def _read_one(root: Path, path: Path) -> Raw:
    path = inside(root, str(path.absolute()), str(path))
    base = root.absolute()
    relative = (
        path.relative_to(base) if path.is_relative_to(base) else path.resolve().relative_to(root.resolve())
    )
    parts = list(relative.parts)
    if "images" in parts:
        parts[parts.index("images")] = "labels"
    label = inside(root, str(Path(*parts).with_suffix(".txt")), str(path))
    height, width = read_image(path).shape[:2]
    objects: list[Object] = []
    problems: list[Problem] = []
    lines = label.read_text(encoding="utf-8", errors="replace").splitlines() if label.is_file() else []
    for number, line in enumerate(lines, 1):
        place = f"{label}:{number}"
        fields = line.split()
        if not fields:
            continue
        try:
            kind, (x, y, w, h) = int(fields[0]), (float(v) for v in fields[1:])
        except ValueError:
            problems.append(Problem(place, f"{line.strip()!r} is not `class cx cy w h`", "correct the line"))
            continue
        box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        objects.append(Object(place, kind, box))
    if problems:
        raise DataError(problems)
    return Raw(str(relative), path, objects, str(label))


def _read(data: YoloData, split: str) -> Found:
    raws, problems = read_yolo(data.root, getattr(data, split))
    return Found(raws, problems=problems)


YOLO = DetectionFormat(_read, lambda data: data.classes)


def _names_in(path: Path) -> list[str]:
    """The classes of a YOLO data.yaml: `names` is a list, or maps index to name."""
    tree: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    names: Any = cast("dict[str, Any]", tree).get("names", []) if isinstance(tree, dict) else []
    return [
        str(name) for name in (cast("dict[Any, Any]", names).values() if isinstance(names, dict) else names)
    ]


def find_yolo(root: Path) -> dict[str, JsonValue] | None:
    """The keys of `data` where a folder has images/ and labels/, with the classes of its data.yaml or of its labels."""
    if not (root / "images").is_dir() or not (root / "labels").is_dir():
        return None
    classes: list[str] = []
    for name in ("data.yaml", "dataset.yaml", "classes.txt", "labels/classes.txt"):
        path = root / name
        if path.is_file() and path.suffix == ".txt":
            classes = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        elif path.is_file():
            classes = _names_in(path)
        if classes:
            break
    if not classes:
        highest = -1
        for path in sorted((root / "labels").rglob("*.txt"))[:LOOKED_AT]:
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                first = line.split()[:1]
                highest = max(highest, int(first[0]) if first and first[0].isdigit() else -1)
        classes = [f"class{i}" for i in range(highest + 1)]
    folders = {p.name for p in (root / "images").iterdir() if p.is_dir()}
    train = "images/train" if "train" in folders else "images"
    val = next((f"images/{n}" for n in ("val", "valid", "test") if n in folders), train)
    splits: dict[str, JsonValue] = {"train": train, "val": val}
    if "test" in folders and val != "images/test":
        splits["test"] = "images/test"
    return {"format": "yolo", "root": str(root.absolute()), "classes": [*classes], **splits}
