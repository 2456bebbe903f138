"""Detections of an artifact on images, drawn and as JSON, from the artifact alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from edgec.core.contract.detection import DetectionContract
from edgec.core.errors import DataError, Problem
from edgec.core.files import write_atomic
from edgec.core.frozen import Frozen
from edgec.images.inputs import files_of, result_names
from edgec.images.reading import SUFFIXES, read_image
from edgec.runtimes.artifact import predictor
from edgec.tasks.detection.contract import finish, prepare
from edgec.tasks.detection.decode import Detections
from edgec.tasks.detection.draw import draw_detections, encode_jpeg


class DetectedObject(Frozen):
    """An object in an image; in JSON its class is called "class"."""

    class_name: str = Field(serialization_alias="class")
    score: float
    box: tuple[float, float, float, float]  # xyxy, pixels of the image


def detect(
    artifact: str | Path,
    images: Sequence[str | Path],
    output: str | Path,
    *,
    score: float = 0.25,
    threads: int = 1,
) -> dict[str, list[DetectedObject]]:
    """Draw the detections of an artifact on images, and write them to `output`/detections.json.

    The artifact's contract alone says how: input size, letterbox, scaling, classes, decoding. Boxes are xyxy in
    pixels of the image. Raises RecipeError for an artifact of another task, and DataError that lists every image that cannot be
    read, after the others are done.
    """
    model = predictor(Path(artifact), threads=threads)
    contract = DetectionContract.of(model.contract, str(artifact))
    output = Path(output)
    objects_of: dict[str, list[DetectedObject]] = {}
    problems: list[Problem] = []
    paths = files_of(images, SUFFIXES)
    for path, name in zip(paths, result_names(paths, lambda path: ".jpg"), strict=True):
        try:
            image = read_image(path)
        except DataError as error:
            problems += error.problems
            continue
        tensor, placement = prepare(image, contract.input)
        detections = finish(model.outputs(tensor[None]), contract, [placement], score)[0]
        objects_of[str(path)] = _objects(detections, contract.classes)
        write_atomic(output / name, encode_jpeg(draw_detections(image, detections, contract.classes)))
    tree = {
        path: [each.model_dump(mode="json", by_alias=True) for each in objects]
        for path, objects in objects_of.items()
    }
    text = json.dumps({"artifact": str(artifact), "images": tree}, indent=1)
    write_atomic(output / "detections.json", text.encode())
    if problems:
        raise DataError(problems)
    return objects_of


def _objects(detections: Detections, classes: Sequence[str]) -> list[DetectedObject]:
    """Rounded to what is worth reading: scores to 5 digits, boxes to hundredths of a pixel."""
    objects: list[DetectedObject] = []
    for box, score, label in zip(detections.boxes, detections.scores, detections.labels, strict=True):
        left, top, right, bottom = (round(float(side), 2) for side in box)
        objects.append(
            DetectedObject(
                class_name=classes[int(label)], score=round(float(score), 5), box=(left, top, right, bottom)
            )
        )
    return objects
