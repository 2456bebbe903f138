"""Enlarging images and videos with an artifact: in tiles that keep to a memory budget, from the artifact alone."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from edgec.core.contract.superres import SuperresContract
from edgec.core.errors import DataError, Missing, Problem, RecipeError
from edgec.core.events import Events, Listener
from edgec.core.files import storage_error
from edgec.images.bicubic import bicubic_up
from edgec.images.inputs import files_of, result_names
from edgec.images.reading import SUFFIXES, alpha_and_grey, read_image
from edgec.onnx.proto import load_model
from edgec.onnx.session import OnnxSession
from edgec.runtimes.artifact import contract_of
from edgec.tiles.contract import Prepared, as_bytes, overlap_within
from edgec.tiles.crops import Plan, plan, tile_within, tiled
from edgec.tiles.memory import bytes_per_pixel
from edgec.tiles.staged_graph import StagedGraph, other_poolings, statistics_of
from edgec.tiles.statistics import tiled_exactly

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
LOCAL_SHARE = 3  # with attention per tile, tiles differ anyway: a third of the radius hides the seams
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

Attention = Literal["local", "exact"]


def upscale(
    artifact: str | Path,
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    tile_memory: str | int = "256MB",
    attention: Attention = "local",
    overlap: int | None = None,
    threads: int = 1,
    listeners: Sequence[Listener] = (),
) -> dict[str, Path]:
    """Enlarge images, folders of images and videos into the folder `output`; what was written, by input.

    `tile_memory` bounds what the network takes beside the images themselves. `attention`: "local" gives each tile its
    own statistics, "exact" the whole image's. `overlap`: pixels of the network's input; None: the network's radius,
    or a third of it where attention is local. Images are written as PNG, with their alpha channel; grey stays grey.
    Raises DataError that lists every input that cannot be read, after the others are done.
    """
    model = Upscaler(Path(artifact), tile_memory, attention, overlap, threads)
    events = Events(listeners=tuple(listeners))
    output = Path(output)
    paths = files_of(inputs, SUFFIXES, VIDEOS)
    targets = [output / name for name in result_names(paths, _suffix)]
    _check_folder(output, paths, targets)
    written: dict[str, Path] = {}
    problems: list[Problem] = []
    for index, (path, target) in enumerate(zip(paths, targets, strict=True)):
        events.progress(f"upscaling {path.name}")(index, len(paths))
        try:
            if target.suffix == ".mp4":
                _video(model, path, target, events)
            else:
                _image(model, path, target)
            written[str(path)] = target
        except DataError as error:
            problems += error.problems
    events.progress("upscaling")(len(paths), len(paths))
    if problems:
        raise DataError(problems)
    return written


class Upscaler:
    """An artifact, ready to enlarge images of any size."""

    def __init__(
        self,
        artifact: Path,
        tile_memory: str | int = "256MB",
        attention: Attention = "local",
        overlap: int | None = None,
        threads: int = 1,
    ) -> None:
        self.budget = parse_bytes(tile_memory)
        if attention not in ("local", "exact"):
            raise RecipeError([Problem("--attention", f"{attention!r}", "give local or exact")])
        self._session = OnnxSession(artifact, threads, small_memory=True)
        self.contract = SuperresContract.of(contract_of(self._session, str(artifact)), str(artifact))
        graph = load_model(artifact)
        self._cost = bytes_per_pixel(graph)
        if attention == "exact" and (unsupported := other_poolings(graph)):
            remedy = "the whole image's statistics are means and variances; use local"
            raise RecipeError(
                [Problem("--attention", f"exact cannot follow {', '.join(unsupported)}", remedy)]
            )
        pools = bool(statistics_of(graph))
        self._staged = StagedGraph(graph, threads) if attention == "exact" and pools else None
        radius = self.contract.radius
        local = attention == "local" and pools
        chosen = (radius // LOCAL_SHARE if local else radius) if overlap is None else overlap
        self.overlap = -(-chosen // self.contract.multiple) * self.contract.multiple

    def tiles(self, height: int, width: int) -> Plan:
        """The tiles of an input of the network. Raises RecipeError when the budget is too small for one."""
        multiple = self.contract.multiple
        try:
            if self.contract.dynamic_size:
                tile = tile_within(self.budget, self._cost, height, width, self.overlap, multiple)
                return plan(height, width, tile, self.overlap, multiple)
            tile = self.contract.input.size
            if (needed := tile[0] * tile[1] * self._cost) > self.budget:
                megabytes = math.ceil(needed / 1e5) / 10
                raise ValueError(f"the artifact's size, {tile[1]} x {tile[0]} pixels, takes {megabytes:g}MB")
            return plan(height, width, tile, overlap_within(tile, self.overlap, multiple), multiple)
        except ValueError as error:
            message = f"{self.budget / 1e6:g}MB is too little: {error}"
            raise RecipeError([Problem("--tile-memory", message, "give it this much")]) from None

    def __call__(self, low: np.ndarray) -> np.ndarray:
        """An RGB uint8 image [h, w, 3], enlarged."""
        contract = self.contract
        x = Prepared(low, contract)
        height, width = (side * contract.factor for side in x.size)
        tiles = self.tiles(x.shape[1], x.shape[2])

        def run(part: np.ndarray) -> np.ndarray:
            return self._session.run({contract.input.name: part})[0]

        def finish(output: np.ndarray) -> np.ndarray:
            return as_bytes(output, contract)

        if self._staged is None or len(tiles.tiles) == 1:
            output = tiled(run, x, tiles, contract.factor, finish)
        else:
            output = tiled_exactly(self._staged, x, tiles, contract.factor, finish)
        return output[:, :height, :width].transpose(1, 2, 0)


def parse_bytes(text: str | int) -> int:
    """A number of bytes, such as 256MB or 1GiB. Raises RecipeError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]I?B)?\s*", str(text).upper())
    if match is None or float(match[1]) <= 0:
        raise RecipeError([Problem("--tile-memory", f"{text!r} is not a size", "write 256MB or 1GB")])
    return int(float(match[1]) * UNITS[match[2] or ""])


def _image(model: Upscaler, path: Path, target: Path) -> None:
    output = model(read_image(path))
    alpha, grey = alpha_and_grey(path)
    picture = Image.fromarray(np.ascontiguousarray(output))
    if grey:
        picture = picture.convert("L")
    if alpha is not None:
        grown = bicubic_up(alpha[:, :, None], model.contract.scale)[:, :, 0]
        picture.putalpha(Image.fromarray(grown))
    part = target.with_name(f".{target.name}.part")
    try:
        picture.save(part, "PNG")
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise storage_error(target, error) from error


def _video(model: Upscaler, path: Path, target: Path, events: Events) -> None:
    """Frame by frame, with the frame rate of the original; sound is not kept."""
    source = cv2.VideoCapture(str(path))
    total = int(source.get(cv2.CAP_PROP_FRAME_COUNT))
    rate = source.get(cv2.CAP_PROP_FPS) or 25.0
    part = target.with_name(f".part-{target.name}")
    writer: cv2.VideoWriter | None = None
    count = 0
    advance = events.progress(f"upscaling {path.name}")
    try:
        for frame in _frames(source):
            output = np.ascontiguousarray(model(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)))
            if writer is None:
                size = (output.shape[1], output.shape[0])
                writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
                if not writer.isOpened():
                    raise Missing("OpenCV cannot write mp4 video here; install opencv-python with FFmpeg")
            writer.write(cv2.cvtColor(output, cv2.COLOR_RGB2BGR))
            count += 1
            advance(count, max(total, count))
        if writer is None:
            message = "no frame can be read"
            raise DataError([Problem(str(path), message, "check that it plays; OpenCV needs its codec")])
        writer.release()
        part.replace(target)
    finally:
        source.release()
        if writer is not None:
            writer.release()  # twice does no harm
        part.unlink(missing_ok=True)
    if count < total:
        events.note(f"{path}: {count} of {total} frames could be read", "warning")


def _frames(source: cv2.VideoCapture) -> Iterator[np.ndarray]:
    while True:
        decoded, frame = source.read()
        if not decoded:
            return
        yield frame


def _suffix(path: Path) -> str:
    """How the result of an input ends."""
    return ".mp4" if path.suffix.lower() in VIDEOS else ".png"


def _check_folder(output: Path, inputs: Sequence[Path], targets: Sequence[Path]) -> None:
    """Make the folder. Raises RecipeError when it cannot be written, or an input would be overwritten."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        message = f"cannot be written ({error.strerror})"
        raise RecipeError([Problem(str(output), message, "give another folder")]) from error
    originals = {path.resolve() for path in inputs}
    lost = [target for target in targets if target.resolve() in originals]
    if lost:
        raise RecipeError(
            [Problem(str(t), "is an input and would be overwritten", "give another folder") for t in lost]
        )
