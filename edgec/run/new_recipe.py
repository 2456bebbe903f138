"""A new recipe for the user's data, with its task, format, splits and classes found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import yaml
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from edgec.core.errors import DataError, Problem, RecipeError
from edgec.core.files import write_atomic
from edgec.images.reading import is_image

LOOKED_AT = 2000  # annotations read to find the classes


def write_recipe(data: Path, output: Path, force: bool = False) -> Iterator[str]:
    """Write a recipe for the data set in a folder; yields what was found, for a person to read.

    A folder of images without annotations is for super-resolution. Raises DataError when the folder is nothing of that,
    RecipeError when `output` already exists.
    """
    if output.exists() and not force:
        raise RecipeError([Problem(str(output), "already exists", "pass --force, or another -o")])
    if not data.is_dir():
        raise DataError([Problem(str(data), "is not a folder", "give the folder of the data set")])
    detection = _voc(data) or _coco(data) or _yolo(data)
    found = detection or _images(data)
    if found is None:
        remedy = (
            "VOC has Annotations/ and ImageSets/Main/, COCO annotations/*.json, YOLO images/ and labels/; "
            "images alone are for super-resolution"
        )
        raise DataError(
            [Problem(str(data), "looks like none of VOC, COCO, YOLO, and holds no image", remedy)]
        )
    tree = _recipe(found) if detection else _superres_recipe(found)
    head = f"# Made by `edgec init` for {found['format']} data. Check it with: edgec compress {output} --dry-run\n"
    write_atomic(output, (head + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)).encode())
    what = f"{len(found.get('classes', ()))} classes" if detection else "super-resolution by 4"
    yield f"found {found['format']} data in {data}: {what}"
    yield f"wrote {output}; next: edgec compress {output} --dry-run"


def _recipe(data: dict[str, Any]) -> dict[str, Any]:
    """A recipe that trains a small detector and compresses it."""
    training = {"batch": 16, "optimizer": "sgd", "lr": 0.01}
    return {
        "name": "detector",
        "task": "detection",
        "data": {**data, "input": [320, 320], "fit": "letterbox", "problems": "skip"},
        "network": {"arch": "yolov4_tiny", "args": {"width": 0.5}, "anchors": "kmeans"},
        "stages": {
            "train": {"epochs": 100, **training, "evaluate_every": 10},
            "sparsify": {"epochs": 20, **training, "lr": 0.005},
            "prune": {"keep_padded_macs": 0.5, "round_to": 16, "min_channels": 16},
            "distill": {
                "epochs": 50,
                **training,
                "terms": [
                    {"kind": "spatial_attention", "taps": "auto", "weight": 1000},
                    {"kind": "logits", "temperature": 3, "weight": 1},
                ],
            },
            "quantize": {},
            "export": {},
            "profile": {},
        },
        "gates": {"max_drop": 0.02, "min_speedup": 1.5},
    }


def _superres_recipe(data: dict[str, Any]) -> dict[str, Any]:
    """A recipe that trains a small super-resolution network and compresses it."""
    training = {"batch": 16, "optimizer": "adamw", "lr": 0.0005, "weight_decay": 0.0, "clip_norm": 1.0}
    return {
        "name": "superres",
        "task": "superres",
        "data": {**data, "scale": 4, "problems": "skip"},
        "network": {"arch": "imdn", "args": {"features": 32, "blocks": 4}},
        "stages": {
            "train": {"epochs": 100, **training, "evaluate_every": 10},
            "sparsify": {"epochs": 10, **training, "lr": 0.0002},
            "prune": {"keep_params": 0.5, "round_to": 4, "min_channels": 4},
            "distill": {
                "epochs": 50,
                **training,
                "terms": [{"kind": "output"}, {"kind": "spatial_attention", "taps": "auto", "weight": 10}],
            },
            "quantize": {"images": 32, "max_drop": 0.1},
            "export": {"dynamic_size": True},
            "profile": {},
        },
        "gates": {"max_drop": 0.3, "min_speedup": 1.5},
    }


def _images(root: Path) -> dict[str, Any] | None:
    """Folders of images: by their names for training and validation, or one for both."""
    folders = [root, *sorted(p for p in root.rglob("*") if p.is_dir() and not p.name.startswith("."))]
    names = [str(f.relative_to(root)) for f in folders if any(is_image(p) for p in f.iterdir())]
    if not names:
        return None
    train = next((n for n in names if "train" in n.lower()), names[0])
    others = [n for n in names if n != train]
    val = next(
        (n for n in others if "val" in n.lower()), next((n for n in others if "test" in n.lower()), train)
    )
    splits = {"train": train, "val": val}
    test = next((n for n in others if n != val and "test" in n.lower()), None)
    return {"format": "images", "root": str(root.absolute()), **splits, **({"test": test} if test else {})}


def _voc(root: Path) -> dict[str, Any] | None:
    sets = root / "ImageSets" / "Main"
    if not (root / "Annotations").is_dir() or not sets.is_dir():
        return None
    names = [p.stem for p in sorted(sets.glob("*.txt"))]
    counts: Counter[str] = Counter()
    for path in sorted((root / "Annotations").glob("*.xml"))[:LOOKED_AT]:
        try:
            counts.update(
                n.text or "" for n in ElementTree.parse(path, forbid_dtd=True).iterfind("object/name")
            )
        except (ElementTree.ParseError, DefusedXmlException, OSError):
            continue  # `--dry-run` lists broken files with their problem
    splits = {"train": _pick(names, "train", "trainval"), "val": _pick(names, "val", "test")}
    if "test" in names and splits["val"] != "test":
        splits["test"] = "test"
    return {
        "format": "voc",
        "root": str(root.absolute()),
        "classes": sorted(c for c in counts if c),
        **splits,
    }


def _pick(names: list[str], *wanted: str) -> str:
    return next((name for name in wanted if name in names), names[0] if names else wanted[0])


def _coco(root: Path) -> dict[str, Any] | None:
    splits: dict[str, Any] = {}
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
    splits.setdefault("val", dict(splits["train"]))
    return {"format": "coco", "classes": classes, **splits}


def _names_in(path: Path) -> list[str]:
    """The classes of a YOLO data.yaml: `names` is a list, or maps index to name."""
    tree: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    names: Any = cast("dict[str, Any]", tree).get("names", []) if isinstance(tree, dict) else []
    return [
        str(name) for name in (cast("dict[Any, Any]", names).values() if isinstance(names, dict) else names)
    ]


def _yolo(root: Path) -> dict[str, Any] | None:
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
    splits: dict[str, Any] = {"train": train, "val": val}
    if "test" in folders and val != "images/test":
        splits["test"] = "images/test"
    return {"format": "yolo", "root": str(root.absolute()), "classes": classes, **splits}
