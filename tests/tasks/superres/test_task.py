"""The task: what stages are given, how it is measured, and that the authors' weights reach what the paper says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from edgec.core.contract.detection import DetectionContract, DetectionInput, Head
from edgec.core.errors import DataError, NetworkError, RecipeError
from edgec.core.events import Event, Events, Progress
from edgec.core.network import Network
from edgec.core.predictor import Predictor
from edgec.core.weights import load_into
from edgec.images.bicubic import bicubic_up
from edgec.onnx.export import to_onnx
from edgec.recipe import Export, NetworkSource, load
from edgec.run.code_version import code_behind
from edgec.run.initial_network import own_names, read_weights
from edgec.run.keys import key_parts
from edgec.run.state import RunContext, RunState
from edgec.run.store import Store
from edgec.run.task import make_task
from edgec.runtimes.artifact import predictor, write_artifact
from edgec.tasks.predictor import torch_predictor
from edgec.tasks.superres.task import SuperResolution
from edgec.tiles.contract import upscaled


class Enlarge(nn.Module):
    """Nearest neighbours, with one weight so that it has a device."""

    def __init__(self, factor: int = 2, multiple: int = 1) -> None:
        super().__init__()
        self.factor, self.multiple, self.radius = factor, multiple, 0
        self.gain = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gain * x.repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sets of two smooth images, 40 x 52 and 48 x 40 pixels."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for k, size in enumerate(((40, 52), (48, 40))):
            image = cv2.resize(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), size[::-1])
            Image.fromarray(image).save(tmp_path / name / f"{k}.png")
    return tmp_path


def make(folder: Path, events: Events | None = None, **data: Any) -> SuperResolution:
    sets = {"train": "a", "val": {"a": "a", "b": "b"}}
    tree: dict[str, Any] = {
        "name": "t",
        "task": "superres",
        "data": {"format": "images", "root": str(folder), "scale": 2, "input": [16, 16], **sets, **data},
        "network": {"arch": "imdn"},
        "stages": {"export": {}},
    }
    made = make_task(load(tree), events)
    assert isinstance(made, SuperResolution)
    return made


def test_batches_losses_and_knowledge_fit_together(folder: Path) -> None:
    task = make(folder, patch=8, patches=3)
    net = Enlarge()
    (batch,) = list(task.batches(4, 1, seed=0).epoch(0))
    outputs = net(batch.images)
    assert outputs.shape == batch.targets.shape == (4, 3, 16, 16)
    (loss,) = task.losses(outputs, batch, net).values()
    assert loss == pytest.approx(float((outputs - batch.targets).abs().mean()))
    assert torch.equal(task.knowledge(outputs, net)["output"][0], outputs)
    assert bool(task.regions(batch, (4, 5)).eq(1).all()) and task.regions(batch, (4, 5)).shape == (4, 4, 5)


@pytest.mark.parametrize("peak", [1, 255])
def test_the_scale_of_white_changes_no_figure(folder: Path, peak: int) -> None:
    task = make(folder, peak=peak, patch=8)
    net = Enlarge()
    images = task.images("val", 3)
    assert images.shape == (3, 3, 16, 16) and images.dtype == np.float32
    assert 0.4 * peak < images.max() <= peak
    found, usual = (t.evaluate(torch_predictor(net, t), "val").flat() for t in (task, make(folder)))
    assert found == pytest.approx(usual)
    (batch,) = list(task.batches(2, 1, seed=0).epoch(0))[:1]
    (other,) = list(make(folder, patch=8).batches(2, 1, seed=0).epoch(0))[:1]
    losses = [
        float(task_.losses(net(b.images), b, net)["l1"])
        for task_, b in ((task, batch), (make(folder), other))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_wrong_scale_in_the_contract_is_lost_accuracy(folder: Path) -> None:
    """A network that takes and gives 0..1, as most do near the ends of their range."""
    task = make(folder)

    def run(images: np.ndarray) -> list[np.ndarray]:
        return [np.clip(images, 0, 1).repeat(2, 2).repeat(2, 3)]

    contract = task.contract(Enlarge())
    wrong = contract.changed(input=contract.input.model_dump() | {"scale": 1.0})
    right = task.evaluate(Predictor(run, contract), "val")["psnr"]
    assert task.evaluate(Predictor(run, wrong), "val")["psnr"] < right - 10


def test_a_detector_is_not_evaluated(folder: Path) -> None:
    shape = DetectionInput(name="images", shape=(1, 3, 16, 16), scale=1.0, fit="stretch", pad_value=0)
    detector = DetectionContract(input=shape, classes=("a",), heads=(Head(((8.0, 8.0),), 8, 1.0, 1),))
    with pytest.raises(RecipeError, match=r"x\.onnx: is an artifact for detection, not for superres"):
        make(folder).evaluate(Predictor(lambda images: [images], detector, name="x.onnx"), "val")


def test_figures_for_each_set_and_image_and_progress(folder: Path) -> None:
    heard: list[Event] = []
    task = make(folder, Events(listeners=(heard.append,)))
    found = task.evaluate(torch_predictor(Enlarge(), task), "val")
    assert {"psnr", "ssim", "psnr8", "ssim8"} <= found.values.keys()
    sets = found.by_set["psnr"]
    assert sets.keys() == {"a", "b"} and "1" in found.by_image["psnr"]["b"]
    assert found["psnr"] == pytest.approx((sets["a"] + sets["b"]) / 2)
    assert [e.done for e in heard if isinstance(e, Progress)] == [1, 2, 3, 4]
    first = task.evaluate(torch_predictor(Enlarge(), task), "val", limit=1)
    assert {metric: list(sets) for metric, sets in first.by_image.items()} == {"psnr": ["a"], "ssim": ["a"]}


def test_an_image_that_is_already_enlarged_goes_in_enlarged(folder: Path) -> None:
    """A network that changes nothing then gives bicubic."""
    task = make(folder, enlarged=True)
    net = Enlarge(factor=1)
    assert task.example().shape == (1, 3, 32, 32) and task.contract(net).input.shape == (1, 3, 32, 32)
    low = np.random.default_rng(0).integers(0, 256, (11, 13, 3), dtype=np.uint8)
    np.testing.assert_array_equal(upscaled(torch_predictor(net, task), low), bicubic_up(low, 2))


def test_networks_that_do_not_fit_are_reported(folder: Path) -> None:
    task = make(folder)
    with pytest.raises(NetworkError, match=r"factor, multiple, radius.*your-own-network"):
        task.contract(nn.Conv2d(3, 3, 1))
    with pytest.raises(DataError, match=r"data\.scale.*2.*enlarges by 3"):
        task.contract(Enlarge(3))
    with pytest.raises(DataError, match=r"data\.input.*\[16, 16\].*multiples of 3"):
        task.contract(Enlarge(2, multiple=3))
    with pytest.raises(DataError, match="boxes"):
        task.tail(Enlarge(), Export(output="boxes"))
    with pytest.raises(DataError, match="anchors"):
        task.network_args(NetworkSource(arch="imdn", anchors="kmeans"))
    assert task.network_args(NetworkSource(arch="imdn")) == {"scale": 2}


def test_a_fixed_size_is_used_in_tiles(folder: Path, tmp_path: Path) -> None:
    """Equal to the whole image where the network sees no farther than the overlap."""
    task = make(folder)
    net = nn.Sequential(nn.Conv2d(3, 12, 3, 1, 1), nn.PixelShuffle(2))
    net.factor, net.multiple, net.radius = 2, 1, 1  # type: ignore[assignment]
    contract = task.contract(net).changed(dynamic_size=False)
    write_artifact(tmp_path / "x.onnx", to_onnx(net, task.example(), ["image"]), contract)
    low = np.random.default_rng(1).integers(0, 256, (37, 9, 3), dtype=np.uint8)  # narrower than a tile
    whole, tiles = (upscaled(p, low) for p in (torch_predictor(net, task), predictor(tmp_path / "x.onnx")))
    assert whole.shape == (74, 18, 3)
    inner = np.s_[:, : 18 - 2]  # at the right, tiles see a mirrored edge, the whole image zeros
    assert np.abs(whole[inner].astype(int) - tiles[inner]).max() <= 1


def test_the_digest_follows_what_is_in_the_files(folder: Path, tmp_path: Path) -> None:
    before = make(folder).digest()
    assert before == make(folder).digest() != make(folder, patch=9).digest()
    moved = folder.rename(tmp_path.parent / f"{tmp_path.name}-moved")
    assert make(moved).digest() == before
    Image.fromarray(np.zeros((40, 52, 3), np.uint8)).save(moved / "b" / "0.png")
    assert make(moved).digest() != before


def test_keys_hold_the_code_of_the_task(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make(folder)
    seen: list[str] = []
    monkeypatch.setattr(
        "edgec.run.keys.code_behind", lambda modules: seen.extend(modules) or code_behind(modules)
    )
    tree = {"name": "t", "task": "superres", "data": {"format": "photographs"}, "network": {"arch": "imdn"}}
    recipe = load(tree | {"stages": {"export": {}}})
    network = Network("imdn", {"scale": 2})
    context = RunContext(recipe, task, Store(tmp_path), Events())
    key_parts(recipe.stages["export"], context, RunState(network, network))
    assert "edgec.tasks.superres.task" in seen and "edgec.models.imdn" in seen
    assert not [name for name in seen if "detection" in name]


def test_pictures_show_what_differs(folder: Path) -> None:
    task = make(folder)
    predictors = {name: torch_predictor(Enlarge(), task) for name in ("dense", "int8")}
    pictures = task.pictures(predictors, 3)
    assert [p.name for p in pictures] == ["0", "1", "1"]
    assert all(p.mime == "image/png" and p.data.startswith(b"\x89PNG") for p in pictures)
    assert "dense, int8, the original" in pictures[0].caption
    assert task.pictures(predictors, 0) == []


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_the_authors_weights_reach_the_published_figures(
    shared_data: Path, tmp_path: Path, engine: str
) -> None:
    root = shared_data / "sr" / "eval"
    weights = shared_data / "weights" / "imdn" / "IMDN_x4.pth"
    if not root.is_dir() or not weights.is_file():
        pytest.skip(f"no Set5 or IMDN weights under {shared_data}")
    sets = {"set5": {"hr": "Set5/HR", "lr": "Set5/LR_x4"}}
    task = make(root, scale=4, train=sets, val=sets, input=[64, 64])
    net = Network.initial("imdn", {"scale": 4}, seed=0).build()
    load_into(net, own_names("imdn", net, read_weights(weights), weights), "IMDN x4")
    model: Predictor = torch_predictor(net, task)
    if engine == "onnxruntime":
        graph = to_onnx(net.eval(), task.example(), ["image"], size_multiple=1)
        write_artifact(tmp_path / "x.onnx", graph, task.contract(net))
        model = predictor(tmp_path / "x.onnx")
    found = task.evaluate(model, "val")
    assert found["psnr"] == pytest.approx(32.210, abs=0.005)
    assert found["ssim"] == pytest.approx(0.8948, abs=0.0005)
