"""What one does with artifacts outside a run: evaluate, detect, profile. Twins of the commands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgec.core.errors import DataError, EdgecError, Problem, RecipeError
from edgec.core.events import Events, Listener
from edgec.core.files import write_atomic
from edgec.core.network import Network
from edgec.core.results.profile import ProfileResult
from edgec.core.runtimes import RUNTIMES
from edgec.recipe import Profile, load
from edgec.run.task import make_task
from edgec.tasks.predictor import torch_predictor

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def artifacts_of(subject: Path) -> list[Path]:
    """The .onnx files that a path means: itself, or those of a run's folder."""
    if subject.is_file():
        return [subject]
    for folder in (subject / "artifacts", subject / "rejected", subject):
        found = sorted(folder.glob("*.onnx")) if folder.is_dir() else []
        if found:
            return found
    raise RecipeError(
        [Problem(str(subject), "holds no .onnx file", "give an artifact, or the folder of a finished run")]
    )


def evaluate(
    subject: str | Path,
    recipe: str | Path | Mapping[str, Any],
    *,
    runtime: str = "onnxruntime",
    split: str = "val",
    overrides: Mapping[str, Any] | Sequence[str] = (),
    threads: int = 2,
    listeners: Sequence[Listener] = (),
) -> dict[str, dict[str, float]]:
    """Metrics by artifact name, measured in `runtime` on a split of the recipe's data.

    `subject` is an .onnx file, a run's folder, or with runtime "torch" the folder of a network at rest.
    """
    from edgec.runtimes.artifact import predictor

    if split not in ("train", "val", "test"):
        raise RecipeError([Problem("--split", f"{split!r}", "give train, val or test")])
    task = make_task(load(recipe, overrides), Events(listeners=tuple(listeners)))
    subject = Path(subject)
    if runtime == "torch":
        folder = next((f for f in (subject, subject / "artifacts" / "network", subject / "rejected" / "network")
                       if (f / "network.json").is_file()), subject)  # fmt: skip
        module = Network.load(folder).build()
        return {folder.name: task.evaluate(torch_predictor(module, task), split)}
    return {
        path.stem: task.evaluate(predictor(path, threads=threads, runtime=runtime), split)
        for path in artifacts_of(subject)
    }


def detect(
    artifact: str | Path,
    images: Sequence[str | Path],
    output: str | Path,
    *,
    score: float = 0.25,
    threads: int = 1,
) -> dict[str, list[dict[str, Any]]]:
    """Draw the detections of an artifact on images, and write them to `output`/detections.json.

    The artifact's contract alone says how: input size, letterbox, scaling, classes, decoding. Boxes are xyxy in
    pixels of the image. Raises RecipeError for an artifact of another task, and DataError that lists every image that cannot be
    read, after the others are done.
    """
    from edgec.core.contract.detection import DetectionContract
    from edgec.images.inputs import files_of, result_names
    from edgec.images.reading import read_image
    from edgec.runtimes.artifact import predictor
    from edgec.tasks.detection.contract import finish, prepare
    from edgec.tasks.detection.draw import draw_detections, encode_jpeg

    model = predictor(Path(artifact), threads=threads)
    contract = DetectionContract.of(model.contract, str(artifact))
    output = Path(output)
    found: dict[str, list[dict[str, Any]]] = {}
    problems: list[Problem] = []
    paths = files_of(images, IMAGES)
    for path, name in zip(paths, result_names(paths, lambda path: ".jpg"), strict=True):
        try:
            image = read_image(path)
        except DataError as error:
            problems += error.problems
            continue
        tensor, mapping = prepare(image, contract.input)
        detections = finish(model.outputs(tensor[None]), contract, [mapping], score)[0]
        found[str(path)] = [
            {
                "class": contract.classes[int(label)],
                "score": round(float(s), 5),
                "box": [round(float(v), 2) for v in box],
            }
            for box, s, label in zip(detections.boxes, detections.scores, detections.labels, strict=True)
        ]
        write_atomic(output / name, encode_jpeg(draw_detections(image, detections, contract.classes)))
    text = json.dumps({"artifact": str(artifact), "images": found}, indent=1)
    write_atomic(output / "detections.json", text.encode())
    if problems:
        raise DataError(problems)
    return found


def profile(
    artifacts: str | Path | Sequence[str | Path],
    *,
    threads: Sequence[int] = (),
    runtimes: Sequence[str] = ("onnxruntime",),
    against: str | Path | None = None,
    devices: Sequence[str] = ("local",),
    batches: Sequence[int] = (1,),
    shapes: Mapping[str, Sequence[int]] | None = None,
    config: Profile | None = None,
    listeners: Sequence[Listener] = (),
) -> ProfileResult:
    """Latency figures of .onnx files (any, also ones that edgec did not make), measured side by side.

    `runtimes` other than onnxruntime get files of their own, which are checked against onnxruntime's outputs first.
    Sizes that a file leaves open are those of its golden input, or of `shapes` (by input), or 1. Ratios are to `against` where
    it is given, else to the dense artifact, else to the first. `devices`: see `edgec.devices.inventory`; figures of the second
    and later ones are `others`. What could not be measured is in `failures`; Missing or StageError is raised when that is
    everything.
    """
    from edgec.bench.files import profile_artifacts

    given = [artifacts] if isinstance(artifacts, str | Path) else list(artifacts)
    given = given if against is None else [against, *given]
    missing = [Problem(str(p), "does not exist", "check the path") for p in given if not Path(p).exists()]
    if missing:
        raise RecipeError(missing)
    paths = [path for item in given for path in artifacts_of(Path(item))]
    known = [row.name for row in RUNTIMES.rows() if not row.takes_networks]
    remedy = f"choose from {', '.join(known)}"
    unknown = [Problem("--runtimes", repr(r), remedy) for r in runtimes if r not in known]
    if not runtimes:
        unknown.append(Problem("--runtimes", "names none", remedy))
    if unknown:
        raise RecipeError(unknown)
    chosen = config or Profile(
        threads=tuple(threads),
        runtimes=tuple(runtimes),
        devices=tuple(devices) or ("local",),
        batches=tuple(batches),
    )
    base = None if against is None else artifacts_of(Path(against))[0]
    return profile_artifacts(paths, chosen, Events(listeners=tuple(listeners)), shapes, base)


def check_devices(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What the named devices are, or this machine and all of the device file: {"device", "address", "environment", "error"}.

    "environment" is that of `edgec.probe.describe`, empty where "error" says why it cannot be told. Raises
    RecipeError for names that are unknown.
    """
    from edgec.devices.inventory import boards, open_devices

    known = boards()
    found: list[dict[str, Any]] = []
    for device in open_devices(names or ("local", *known)):
        row = {"device": device.name, "environment": {}, "error": ""}
        row["address"] = known[device.name].address if device.name in known else device.name
        try:
            row["environment"] = device.environment()
        except EdgecError as error:
            row["error"] = str(error)
        finally:
            device.close()
        found.append(row)
    return found
