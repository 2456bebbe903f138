"""PASCAL VOC: ImageSets/Main/<name>.txt lists ids, Annotations/<id>.xml the objects, JPEGImages/ the images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from pydantic import JsonValue

from edgec.core.errors import DataError, Problem
from edgec.images.reading import image_named, inside
from edgec.recipe import VocData
from edgec.tasks.detection.format import DetectionFormat, Found
from edgec.tasks.detection.samples import Object, Raw

LOOKED_AT = 2000  # annotations read to find the classes


def read_voc(root: Path, split: str) -> tuple[list[Raw], list[Problem]]:
    """The images of an image set and every problem of its files."""
    names = inside(root, f"ImageSets/Main/{split}.txt", "data")
    try:
        lines = names.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            [Problem(str(names), f"cannot be read ({error})", "check data.root and the split's name")]
        ) from None
    raws: list[Raw] = []
    problems: list[Problem] = []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or (len(fields) > 1 and fields[1] == "-1"):
            continue
        try:
            raws.append(_read_one(root, fields[0], f"{names}:{number}"))
        except DataError as error:
            problems += error.problems
    return raws, problems


def _read_one(root: Path, name: str, place: str) -> Raw:
    path = inside(root, f"Annotations/{name}.xml", place)
    try:
        tree: Any = ElementTree.parse(path, forbid_dtd=True).getroot()
    except FileNotFoundError:
        raise DataError(
            [Problem(place, f"{path} is missing", "add it, or remove the id from the list")]
        ) from None
    except DefusedXmlException:
        raise DataError(
            [Problem(str(path), "declares a DTD or entities", "remove them; annotations need none")]
        ) from None
    except (ParseError, OSError, UnicodeDecodeError, ValueError) as error:
        raise DataError([Problem(str(path), f"is not valid XML ({error})", "write it again")]) from None
    image = image_named(inside(root, f"JPEGImages/{name}", place))
    if image is None:
        raise DataError(
            [Problem(place, f"no image JPEGImages/{name}.jpg", "add it, or remove the id from the list")]
        )
    inside(root, str(image.relative_to(root)), place)  # it may be a link
    objects: list[Object] = []
    problems: list[Problem] = []
    for index, item in enumerate(tree.iterfind("object")):
        where = f"{path} object[{index}]"
        try:
            x1, y1, x2, y2 = (float(item.findtext(f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax"))
        except (TypeError, ValueError):
            problems.append(Problem(where, "bndbox lacks a number", "give xmin, ymin, xmax, ymax"))
            continue
        difficult = (item.findtext("difficult") or "0").strip() == "1"
        # 1-based inclusive pixels; a box of one pixel has xmin = xmax and counts as empty
        flat = x2 <= x1 or y2 <= y1
        box = (x1, y1, x1, y1) if flat else (x1 - 1, y1 - 1, x2, y2)
        objects.append(Object(where, (item.findtext("name") or "").strip(), box, difficult))
    if problems:
        raise DataError(problems)
    return Raw(name, image, objects, str(path), _size(tree, path))


def _size(tree: Any, path: Path) -> tuple[int, int] | None:
    """(height, width) as annotated; None when the file does not say."""
    height, width = tree.findtext("size/height"), tree.findtext("size/width")
    if not height or not width:
        return None
    try:
        size = int(height), int(width)
    except ValueError:
        raise DataError(
            [Problem(str(path), f"size {width} x {height} must be numbers", "correct it")]
        ) from None
    return size if min(size) > 0 else None


def _read(data: VocData, split: str) -> Found:
    """Every set of a split, `train2007+train2012`."""
    raws: list[Raw] = []
    problems: list[Problem] = []
    for name in getattr(data, split).split("+"):
        more_raws, more_problems = read_voc(data.root, name)
        raws += more_raws
        problems += more_problems
    return Found(raws, problems=problems)


VOC = DetectionFormat(_read, lambda data: data.classes)


def find_voc(root: Path) -> dict[str, JsonValue] | None:
    """The keys of `data` where a folder is laid out as VOC, with the classes of its first annotations."""
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
        "classes": [*sorted(c for c in counts if c)],
        **splits,
    }


def _pick(names: list[str], *wanted: str) -> str:
    return next((name for name in wanted if name in names), names[0] if names else wanted[0])
