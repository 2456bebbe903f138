"""Accuracy is measured as the artifact's own contract says: what would go wrong on a device goes wrong here."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from edgec.core.contract.detection import DetectionContract
from edgec.core.contract.superres import SuperresContract, SuperresInput
from edgec.core.errors import DataError, RecipeError
from edgec.core.network import Network
from edgec.core.predictor import Predictor
from edgec.onnx.export import to_onnx
from edgec.recipe import Export, Loss, SignsData, load
from edgec.runtimes.artifact import predictor, write_artifact
from edgec.tasks.detection.images import fit_image
from edgec.tasks.detection.task import Detection
from edgec.tasks.predictor import torch_predictor

SIGNS = SignsData(format="signs", train=1, val=8, photograph_size=288, input=(256, 256))


@pytest.fixture(scope="module")
def task() -> Detection:
    return Detection(SIGNS, Loss(), 0)


@pytest.fixture(scope="module")
def artifact(task: Detection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's detector, as trained."""
    args = task.network_args(load("detector").network)
    net = Network.initial("yolov4_tiny", args, 0).build()
    with resources.as_file(resources.files("edgec.models") / "signs_yolov4_tiny.safetensors") as file:
        net.load_state_dict(load_file(file))
    path = tmp_path_factory.mktemp("artifacts") / "dense.fp32.onnx"
    write_artifact(path, to_onnx(net, task.example(), ["head0", "head1"]), task.contract(net))
    return path


def changed(model: Predictor, **fields: Any) -> Predictor:
    """The same network with a contract whose input says something else."""
    contract = model.contract.changed(input=model.contract.input.model_dump() | fields)
    return Predictor(model.run, contract, model.batch, model.name)


def test_a_wrong_scale_in_the_contract_is_lost_accuracy(task: Detection, artifact: Path) -> None:
    model = predictor(artifact)
    right = task.evaluate(model, "val")["map50"]
    assert right > 0.9
    assert task.evaluate(changed(model, scale=1.0), "val")["map50"] < 0.1
    assert task.evaluate(changed(model, scale=1 / 255), "val")["map50"] == right


@pytest.mark.parametrize(
    "fields", [{"fit": "stretch"}, {"pad_value": 0}, {"color": "BGR"}, {"scale": 1 / 254}]
)
def test_every_key_of_the_preparation_is_read(task: Detection, fields: dict[str, Any]) -> None:
    """A network that knows the right tensors by heart, bit for bit, and sees nothing in any other."""
    wide = Detection(SIGNS.model_copy(update={"input": (256, 320), "val": 3}), Loss(), 0)
    known: dict[bytes, int] = {}
    for index, sample in enumerate(wide.samples("val")):
        fitted, _ = fit_image(sample.read(), (256, 320), "letterbox", 114)
        known[(fitted.transpose(2, 0, 1).astype(np.float32) / 255).tobytes()] = index

    def run(images: np.ndarray) -> list[np.ndarray]:
        rows = [
            (box, label, place)
            for place, image in enumerate(images)
            if image.tobytes() in known
            for box, label in zip(*wide.fitted("val")(known[image.tobytes()])[1:], strict=True)
        ]
        boxes = np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4)
        labels, places = (np.array([row[k] for row in rows], np.int64) for k in (1, 2))
        return [boxes, np.ones(len(rows), np.float32), labels, places]

    net = Network.initial("yolov4_tiny", {"classes": len(wide.classes), "width": 0.125}, 0).build()
    model = Predictor(run, wide.contract(net, Export(output="boxes")))
    assert wide.evaluate(model, "val")["map50"] == 1.0
    assert wide.evaluate(changed(model, **fields), "val")["map50"] == 0.0
    assert (
        wide.evaluate(model, "val")["map50"] == 1.0
    )  # what was prepared for the wrong one is not used again


def test_labels_are_compared_by_name(task: Detection, artifact: Path) -> None:
    model = predictor(artifact)
    contract = DetectionContract.of(model.contract, "here")
    right = task.evaluate(model, "val")
    turned = contract.changed(classes=[*contract.classes[1:], contract.classes[0]])
    assert task.evaluate(Predictor(model.run, turned), "val")["map50"] < right["map50"] / 2
    strangers = contract.changed(classes=[f"other {name}" for name in contract.classes])
    with pytest.raises(DataError, match=r"data\.classes: .*the artifact knows other stop"):
        task.evaluate(Predictor(model.run, strangers), "val")


def test_an_artifact_of_another_task_is_not_evaluated(task: Detection, artifact: Path) -> None:
    other = SuperresContract(
        input=SuperresInput(name="images", shape=(1, 3, 8, 8), scale=1.0),
        scale=2,
        enlarged=False,
        factor=2,
        radius=1,
    )
    model = Predictor(predictor(artifact).run, other, name="x.onnx")
    with pytest.raises(RecipeError, match=r"x\.onnx: is an artifact for superres, not for detection"):
        task.evaluate(model, "val")


def test_a_torch_network_is_measured_by_the_same_contract(task: Detection, artifact: Path) -> None:
    net = Network.initial("yolov4_tiny", {"classes": len(task.classes), "width": 0.125}, 0).build()
    assert torch_predictor(net, task).contract == task.contract(net)
    assert task.contract(net).input == predictor(artifact).contract.input
