"""Pairs of a low- and a high-resolution image: from folders, or from the built-in photographs, checked on load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from edgec.core.errors import DataError, Problem
from edgec.images.bicubic import bicubic_down, cropped
from edgec.images.reading import SUFFIXES, inside, is_image, read_image
from edgec.recipe import FolderData, ImageSet

LEAST = 8  # pixels of a low-resolution side


@dataclass(frozen=True)
class Pair:
    """One image in both resolutions. Grey images have three equal channels; an alpha channel is dropped."""

    set: str
    name: str  # within its set
    hr: Path | np.ndarray  # a file, or RGB uint8 [h, w, 3]
    lr: Path | None  # None: made from `hr` by MATLAB's bicubic
    scale: int

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """(low, high): RGB uint8 [h, w, 3] and [scale * h, scale * w, 3]; the high one cropped to a multiple."""
        high = cropped(read_image(self.hr) if isinstance(self.hr, Path) else self.hr, self.scale)
        low = bicubic_down(high, self.scale) if self.lr is None else read_image(self.lr)
        return low, high

    def files(self) -> list[Path]:
        return [path for path in (self.hr, self.lr) if isinstance(path, Path)]


def pairs_of(root: Path, sets: Mapping[str, ImageSet], scale: int) -> tuple[list[Pair], list[Problem]]:
    """The good pairs of named sets, ordered by set and name, and every problem of the others."""
    pairs: list[Pair] = []
    problems: list[Problem] = []
    for name, images in sets.items():
        try:
            found, more = _in_folder(root, name, images, scale)
        except DataError as error:
            problems += error.problems
            continue
        pairs += found
        problems += more
    with ThreadPoolExecutor(2) as pool:
        checked = list(pool.map(_problems_of, pairs))
    problems += [problem for each in checked for problem in each]
    return [pair for pair, bad in zip(pairs, checked, strict=True) if not bad], problems


def _in_folder(root: Path, name: str, images: ImageSet, scale: int) -> tuple[list[Pair], list[Problem]]:
    """The pairs of a set, not yet opened."""
    files, problems = _images_in(root, images.hr, f"data set {name}: hr", images.limit)
    if images.lr is None:
        return [Pair(name, stem, path, None, scale) for stem, path in files.items()], problems
    partners, more = _images_in(root, images.lr, f"data set {name}: lr")
    problems += more
    pairs: list[Pair] = []
    for stem, path in files.items():
        if stem in partners:
            pairs.append(Pair(name, stem, path, partners[stem], scale))
        else:
            remedy = f"put {path.name} there, or leave lr out to have it made by bicubic"
            problems.append(Problem(str(path), f"has no partner in {root / images.lr}", remedy))
    return pairs, problems


def _images_in(
    root: Path, relative: Path, place: str, limit: int | None = None
) -> tuple[dict[str, Path], list[Problem]]:
    """The first `limit` image files of a folder by their stems, in order, and what is wrong with the others.

    Raises DataError when the folder lies outside the root, is missing or holds no image. An absolute folder is its own root.
    """
    root = relative if relative.is_absolute() else root
    folder = root if relative.is_absolute() else inside(root, str(relative), place)
    if not folder.is_dir():
        raise DataError([Problem(place, f"{folder} is not a folder", "check data.root and the set's path")])
    files = sorted(p for p in folder.iterdir() if is_image(p) and p.is_file())
    if not files:
        remedy = f"images end in {', '.join(SUFFIXES)}"
        raise DataError([Problem(str(folder), "holds no image", remedy)])
    images_by_stem: dict[str, Path] = {}
    problems: list[Problem] = []
    for path in files[:limit]:
        try:
            inside(root, str(path.absolute()), str(path))  # a link may lead out
        except DataError as error:
            problems += error.problems
            continue
        if path.stem in images_by_stem:  # their figures would share a name
            message = f"has the name of {images_by_stem[path.stem].name}"
            problems.append(Problem(str(path), message, "rename or remove one of them"))
            continue
        images_by_stem[path.stem] = path
    return images_by_stem, problems


def _problems_of(pair: Pair) -> list[Problem]:
    """What is wrong with a pair: decoded whole, so that a truncated file is found."""
    try:
        high = read_image(pair.hr) if isinstance(pair.hr, Path) else pair.hr
        low = None if pair.lr is None else read_image(pair.lr)
    except DataError as error:
        return list(error.problems)
    height, width = (side // pair.scale for side in high.shape[:2])
    if min(height, width) < LEAST:
        message = f"{high.shape[1]} x {high.shape[0]} pixels"
        remedy = f"remove it: with scale {pair.scale}, each side needs at least {LEAST * pair.scale}"
        return [Problem(str(pair.hr), message, remedy)]
    if low is not None and low.shape[:2] != (height, width):
        message = f"{low.shape[1]} x {low.shape[0]} pixels; 1/{pair.scale} of {pair.hr} is {width} x {height}"
        return [Problem(str(pair.lr), message, "check data.scale and the folder")]
    return []


def built_in(set_name: str, images: Sequence[tuple[str, np.ndarray]], scale: int) -> list[Pair]:
    """Pairs of images in memory."""
    return [Pair(set_name, name, image, None, scale) for name, image in images]


def read_folders(data: FolderData, split: str) -> tuple[list[Pair], list[Problem]]:
    """The pairs of a split's folders, and what is wrong with others. Raises DataError where no folder is named."""
    sets: Mapping[str, ImageSet] | None = getattr(data, split)
    if sets is None:
        raise DataError([Problem(f"data.{split}", "the recipe names no such split", f"add data.{split}")])
    return pairs_of(data.root, sets, data.scale)


def find_folders(root: Path) -> dict[str, JsonValue] | None:
    """The keys of `data` for folders of images: by their names for training and validation, or one for both."""
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
