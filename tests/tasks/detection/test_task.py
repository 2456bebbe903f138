"""The detection task: data, network arguments, contract, losses, evaluation and pictures."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from edgec.core.contract.detection import DetectionContract
from edgec.core.errors import DataError
from edgec.core.events import Event, Events, Note
from edgec.core.predictor import Predictor
from edgec.recipe import (
    Augment,
    CocoData,
    CocoSplit,
    Export,
    Loss,
    NetworkSource,
    SignsData,
    VocData,
    YoloData,
)
from edgec.tasks.detection import signs
from edgec.tasks.detection.task import Detection
from edgec.tasks.protocol import Task

Write = Callable[..., Path]
SIGNS = SignsData(format="signs", train=12, val=7, test=3, photograph_size=96, input=(96, 96))


class Still(nn.Module):
    """Heads without a network."""

    def __init__(self, classes: int = 8) -> None:
        super().__init__()
        self.heads = [
            {"anchors": [[30, 30], [60, 60]], "stride": 32, "scale_xy": 1.05, "classes": classes},
            {"anchors": [[10, 14], [20, 20]], "stride": 16, "scale_xy": 1.05, "classes": classes},
        ]

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        n, _, h, w = images.shape
        rows = 2 * (5 + self.heads[0]["classes"])
        return [torch.zeros(n, rows, h // s, w // s, requires_grad=True) for s in (32, 16)]


@pytest.fixture(scope="module")
def task() -> Detection:
    return Detection(SIGNS, Loss(), 0)


def voc(root: Path, **changes: Any) -> VocData:
    return VocData(format="voc", root=root, classes=("cat", "dog"), input=(64, 64), **changes)


def boxes_contract(task: Detection) -> DetectionContract:
    return task.contract(Still(len(task.classes)), Export(output="boxes", score_threshold=0.005))


def perfect(
    task: Detection, split: Any, batch: int | None = None, sizes: list[int] | None = None
) -> Predictor:
    """Knows the split by heart: finds each image again by its pixels and gives its boxes."""
    known: dict[bytes, int] = {task.fitted(split)(i)[0].tobytes(): i for i in range(task.size(split))}

    def run(images: np.ndarray) -> list[np.ndarray]:
        if sizes is not None:
            sizes.append(len(images))
        boxes: list[np.ndarray] = [np.zeros((0, 4), np.float32)]
        labels: list[int] = []
        image_of: list[int] = []
        for k, image in enumerate(np.round(images.transpose(0, 2, 3, 1) * 255).astype(np.uint8)):
            index = known[image.tobytes()]
            boxes.append(task.fitted(split)(index)[1])
            labels += task.samples(split)[index].labels.tolist()
            image_of += [k] * len(boxes[-1])
        scores = np.full(len(labels), 0.9, np.float32)
        return [np.concatenate(boxes), scores, np.array(labels), np.array(image_of)]

    return Predictor(run, boxes_contract(task), batch)


# --- data


def test_it_is_a_task(task: Detection):
    checked: Task = task
    assert (checked.name, checked.metric) == ("detection", "map50")
    assert checked.splits() == ("train", "val", "test")
    assert [checked.size(s) for s in checked.splits()] == [12, 7, 3]
    assert task.classes == signs.CLASSES
    assert task.example().shape == (1, 3, 96, 96)


def test_prepared_images(task: Detection):
    images = task.images("val", 3)
    assert (
        images.shape == (3, 3, 96, 96)
        and images.dtype == np.float32
        and 0 <= images.min() < images.max() <= 1
    )
    assert np.array_equal(images, task.images("val", 3))
    assert len(task.images("val", 100)) == 7


def test_batches_are_of_the_training_split(task: Detection):
    made = task.batches(4, 2, seed=1)
    batch = next(iter(made.epoch(0)))
    assert len(made) == 3 and batch.images.shape == (4, 3, 96, 96)
    made.close()


def test_digest_follows_everything_that_matters():
    small = SIGNS.model_copy(update={"train": 2, "val": 1, "test": 1})
    base = Detection(small, Loss(), 0).digest()
    assert re.fullmatch("[0-9a-f]{64}", base)
    assert Detection(small, Loss(), 0).digest() == base
    for changes in (
        {"train": 3},
        {"image_seed": 2},
        {"photograph_size": 64},
        {"input": (64, 64)},
        {"fit": "stretch"},
        {"augment": Augment(flip=0.1)},
    ):
        assert Detection(small.model_copy(update=changes), Loss(), 0).digest() != base, changes
    assert Detection(small, Loss(box=1.0), 0).digest() != base


def test_digest_follows_the_files(tmp_path: Path, voc_image: Write):
    for split in ("train", "val"):
        voc_image(tmp_path, f"{split}0", [("cat", 1, 1, 30, 30)], split=split)
    base = Detection(voc(tmp_path), Loss(), 0).digest()
    assert Detection(voc(tmp_path), Loss(), 0).digest() == base
    path = tmp_path / "Annotations/train0.xml"
    text = path.read_text()
    path.write_text(text.replace(">30<", ">31<"))
    moved = Detection(voc(tmp_path), Loss(), 0).digest()
    path.write_text(text.replace(">cat<", ">dog<"))
    renamed = Detection(voc(tmp_path), Loss(), 0).digest()
    path.write_text(text)
    image = tmp_path / "JPEGImages/val0.jpg"
    size = image.stat().st_size
    image.write_bytes(image.read_bytes() + b"\0")
    other = Detection(voc(tmp_path), Loss(), 0).digest()
    image.write_bytes(image.read_bytes()[:size])
    assert len({base, moved, renamed, other}) == 4
    assert Detection(voc(tmp_path), Loss(), 0).digest() == base


def test_digest_does_not_follow_the_place(tmp_path: Path, voc_image: Write):
    """Data that moved to another folder, or another machine, is the same data."""
    for place in ("here", "there"):
        for split in ("train", "val"):
            voc_image(tmp_path / place, f"{split}0", [("cat", 1, 1, 30, 30)], split=split)
    assert (
        Detection(voc(tmp_path / "here"), Loss(), 0).digest()
        == Detection(voc(tmp_path / "there"), Loss(), 0).digest()
    )


def test_bad_data_stops_with_every_problem(tmp_path: Path, voc_image: Write):
    voc_image(tmp_path, "a", [("cat", 1, 1, 30, 30), ("cow", 1, 1, 9, 9)])
    voc_image(tmp_path, "b", [("dog", 5, 5, 5, 5)])
    voc_image(tmp_path, "v", [("dog", 5, 5, 25, 25)], split="val")
    with pytest.raises(DataError) as caught:
        Detection(voc(tmp_path), Loss(), 0)
    text = str(caught.value)
    assert "a.xml object[1]: class 'cow'" in text and "b.xml object[0]: box 5, 5, 5, 5 is empty" in text
    assert "2 problems" in text and "data.problems: skip" in text
    assert caught.value.exit_code == 5


def test_bad_data_can_be_left_out_and_is_reported(tmp_path: Path, voc_image: Write):
    voc_image(tmp_path, "a", [("cat", 1, 1, 30, 30), ("cow", 1, 1, 9, 9)])
    voc_image(tmp_path, "b", [("dog", 5, 5, 15, 15)], claimed=(1, 1))
    voc_image(tmp_path, "v", [("dog", 5, 5, 25, 25)], split="val")
    heard: list[Event] = []
    task = Detection(voc(tmp_path, problems="skip"), Loss(), 0, Events(listeners=(heard.append,)))
    assert task.size("train") == 1 and task.samples("train")[0].labels.tolist() == [0]
    notes = [e.message for e in heard if isinstance(e, Note) and e.level == "warning"]
    assert len(notes) == 2 and any("'cow'" in n for n in notes) and any("says 1 x 1" in n for n in notes)


@pytest.mark.parametrize("classes", [("cat", "dog", "cat"), ("cat", " ")])
def test_classes_are_named_once_each(tmp_path: Path, voc_image: Write, classes: tuple[str, ...]):
    for split in ("train", "val"):
        voc_image(tmp_path, f"{split}0", [("cat", 1, 1, 30, 30)], split=split)
    with pytest.raises(DataError, match="empty or repeated"):
        Detection(voc(tmp_path).model_copy(update={"classes": classes}), Loss(), 0)


@pytest.mark.parametrize("policy", ["error", "skip"])
def test_a_split_without_images_is_an_error(tmp_path: Path, voc_image: Write, policy: Any):
    voc_image(tmp_path, "a", [("cat", 1, 1, 30, 30)])
    (tmp_path / "ImageSets/Main/val.txt").write_text("")
    with pytest.raises(DataError, match=r"data.val: holds no usable image"):
        Detection(voc(tmp_path, problems=policy), Loss(), 0)


def test_a_test_split_that_is_not_there_is_named(tmp_path: Path, voc_image: Write):
    for split in ("train", "val"):
        voc_image(tmp_path, f"{split}0", [("cat", 1, 1, 30, 30)], split=split)
    task = Detection(voc(tmp_path), Loss(), 0)
    assert task.splits() == ("train", "val")
    with pytest.raises(DataError, match=r"data.test: .*no such split; add data.test"):
        task.evaluate(perfect(task, "val"), "test")


def test_coco_and_yolo_give_the_same_samples(tmp_path: Path, photo: Write):
    photo(tmp_path / "images" / "train" / "a.png", 40, 60)
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "labels/train/a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    tree = {
        "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 60}],
        "categories": [{"id": 4, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_id": 9, "bbox": [15, 10, 30, 20]}],
    }
    (tmp_path / "a.json").write_text(json.dumps(tree))
    split = CocoSplit(images=tmp_path / "images/train", annotations=tmp_path / "a.json")
    coco = Detection(CocoData(format="coco", train=split, val=split), Loss(), 0)
    yolo = Detection(
        YoloData(
            format="yolo", root=tmp_path, classes=("cat", "dog"), train="images/train", val="images/train"
        ),
        Loss(),
        0,
    )
    assert coco.classes == yolo.classes == ("cat", "dog")
    a, b = coco.samples("train")[0], yolo.samples("train")[0]
    assert a.boxes.tolist() == b.boxes.tolist() == [
        [15, 10, 45, 30]
    ] and a.labels.tolist() == b.labels.tolist() == [1]


@pytest.mark.data
def test_blood_cells_load_with_skip_and_stop_with_error(shared_data: Path):
    root = shared_data / "bccd"
    if not root.is_dir():
        pytest.skip("no BCCD")
    data = VocData(
        format="voc",
        root=root,
        classes=("RBC", "WBC", "Platelets"),
        train="trainval",
        val="test",
        problems="skip",
    )
    heard: list[Event] = []
    task = Detection(data, Loss(), 0, Events(listeners=(heard.append,)))
    assert sum(len(s.boxes) for split in ("train", "val") for s in task.samples(split)) == 4888 - 2
    assert len([e for e in heard if isinstance(e, Note)]) == 2
    with pytest.raises(DataError) as caught:
        Detection(data.model_copy(update={"problems": "error"}), Loss(), 0)
    assert sum("is empty" in str(p) for p in caught.value.problems) == 2


# --- network


def test_network_arguments_come_from_the_data(task: Detection):
    assert task.network_args(NetworkSource(arch="yolov4_tiny")) == {"classes": 8}
    given = NetworkSource(arch="yolov4_tiny", args={"classes": 20, "width": 0.5})
    assert task.network_args(given) == {"classes": 20, "width": 0.5}
    assert "classes" not in task.network_args(NetworkSource(arch="darknet", cfg=Path("a.cfg")))


@pytest.mark.parametrize("arch", ["yolov4_tiny", "yolov4"])
def test_anchors_by_kmeans_fit_the_architecture(task: Detection, arch: str):
    args = task.network_args(NetworkSource(arch=arch, anchors="kmeans", args={"width": 0.125}))
    net = import_module(f"edgec.models.{arch}").build(**args)
    areas = {h["stride"]: [w * h_ for w, h_ in h["anchors"]] for h in net.heads}
    ordered = [a for stride in sorted(areas) for a in areas[stride]]
    assert ordered == sorted(ordered) and max(ordered) < 96 * 96
    assert json.loads(json.dumps(args)) == args


def test_the_contract_is_json_and_complete(task: Detection):
    tree = json.loads(json.dumps(task.contract(Still()).to_json()))
    assert (
        (tree["version"], tree["task"]) == (1, "detection")
        and tree["output"] == "raw"
        and tree["classes"] == list(signs.CLASSES)
    )
    assert tree["input"] == {
        "name": "images",
        "shape": [1, 3, 96, 96],
        "layout": "NCHW",
        "color": "RGB",
        "scale": 1 / 255,
        "fit": "letterbox",
        "pad_value": 114,
    }
    assert [h["stride"] for h in tree["heads"]] == [32, 16] and tree["heads"][0]["classes"] == 8


def test_a_network_of_other_classes_is_named(task: Detection):
    with pytest.raises(
        DataError, match=r"data.classes: 8 names, the network has 3; set network.args.classes: 8"
    ):
        task.contract(Still(3))


# --- training


def test_losses_are_named_scalars_with_gradients(task: Detection):
    batch = next(iter(task.batches(4, 2, seed=1).epoch(1)))
    net = Still()
    outputs = net(batch.images)
    terms = task.losses(outputs, batch, net)
    assert set(terms) == {"box", "objectness", "class"} and all(t.shape == () for t in terms.values())
    sum(terms.values(), torch.zeros(())).backward()
    assert all(output.grad is not None and torch.isfinite(output.grad).all() for output in outputs)
    zero = Detection(SIGNS, Loss(box=0.0), 0)
    assert zero.losses(outputs, batch, net)["box"].item() == 0 < terms["box"].item()


def test_knowledge_takes_the_maps_apart(task: Detection):
    net = Still()
    torch.manual_seed(0)
    outputs = [torch.randn_like(o) for o in net(torch.zeros(2, 3, 96, 64))]
    known = task.knowledge(outputs, net)
    assert [t.shape for t in known["classes"]] == [(2, 2, 3, 2, 8), (2, 2, 6, 4, 8)]
    assert [t.shape for t in known["objectness"]] == [(2, 2, 3, 2), (2, 2, 6, 4)]
    assert [t.shape for t in known["boxes"]] == [(2, 2, 3, 2, 4), (2, 2, 6, 4, 4)]
    anchor, row, column = 1, 2, 3
    first = anchor * 13
    assert torch.equal(known["objectness"][1][0, anchor, row, column], outputs[1][0, first + 4, row, column])
    assert torch.equal(
        known["classes"][1][0, anchor, row, column], outputs[1][0, first + 5 : first + 13, row, column]
    )


def test_regions_mark_the_boxes(task: Detection):
    from edgec.tasks.batches import Batch

    targets = torch.tensor([[0, 1, 0.0, 0.0, 32.0, 16.0], [0, 2, 90.0, 90.0, 96.0, 96.0]])
    mask = task.regions(Batch(torch.zeros(2, 3, 96, 96), targets), (6, 6))
    assert mask.shape == (2, 6, 6)
    wanted = torch.zeros(6, 6)
    wanted[0, :2] = 1
    wanted[5, 5] = 1
    assert torch.equal(mask[0], wanted) and torch.equal(mask[1], torch.ones(6, 6))


# --- evaluation


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_a_perfect_network_scores_one_whatever_the_fit(tmp_path: Path, voc_image: Write, fit: Any):
    for i, size in enumerate([(40, 60), (60, 40), (90, 30), (50, 50)]):
        voc_image(tmp_path, f"a{i}", [("cat", 2, 3, 17, 28), ("dog", 15, 5, 28, 38)], split="val", size=size)
    voc_image(tmp_path, "t", [])
    task = Detection(voc(tmp_path, fit=fit), Loss(), 0)
    found = task.evaluate(perfect(task, "val"), "val")
    assert found["map50"] == found["map"] == 1.0
    assert found.counts == {"images": 4, "objects": 8}
    assert found.by_class == {"ap50": {"cat": 1.0, "dog": 1.0}}
    assert all(isinstance(v, (int, float)) for v in found.flat().values())


def test_difficult_objects_are_neither_wanted_nor_punished(tmp_path: Path, voc_image: Write):
    voc_image(tmp_path, "easy", [("cat", 2, 3, 30, 28)], split="val", size=(40, 60))
    voc_image(tmp_path, "hard", [("cat", 2, 3, 30, 28)], split="val", size=(40, 62), difficult=True)
    voc_image(tmp_path, "t", [])
    task = Detection(voc(tmp_path), Loss(), 0)

    def run(images: np.ndarray) -> list[np.ndarray]:
        n = len(images)
        boxes = np.stack([task.samples("val")[i].boxes for i in range(n)])
        scale = np.array([64 / 60, 64 / 62])[:, None, None]
        boxes = boxes * scale + np.array(
            [0, (64 - round(40 * 64 / 60)) / 2, 0, (64 - round(40 * 64 / 60)) / 2]
        )
        return [
            boxes.astype(np.float32).reshape(-1, 4),
            np.ones(n, np.float32),
            np.zeros(n, np.int64),
            np.arange(n),
        ]

    found = task.evaluate(Predictor(run, boxes_contract(task)), "val")
    assert found["map50"] == 1.0 and found.counts["objects"] == 1


def test_a_fixed_batch_is_filled_up_and_the_filling_is_not_counted(task: Detection):
    sizes: list[int] = []
    found = task.evaluate(perfect(task, "val", batch=4, sizes=sizes), "val")
    assert sizes == [4, 4] and found.counts["images"] == 7 and found["map50"] == 1.0
    sizes.clear()
    assert task.evaluate(perfect(task, "val", sizes=sizes), "val", limit=3).counts["images"] == 3
    assert sizes == [3]


def test_raw_maps_are_decoded_by_the_contract(task: Detection):
    """A network that answers with the inverse of the decoding scores as its boxes do."""
    net = Still()

    def run(images: np.ndarray) -> list[np.ndarray]:
        outputs = [np.zeros((len(images), 26, 96 // s, 96 // s), np.float32) for s in (32, 16)]
        for output in outputs:
            output[:, [4, 17]] = -20
        for i in range(len(images)):
            _, boxes, labels = task.fitted("val")(i)
            for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
                stride, (aw, ah) = 16, (10, 14)
                cx, cy = (x1 + x2) / 2 / stride, (y1 + y2) / 2 / stride
                column, row = int(cx), int(cy)
                shares = (np.array([cx - column, cy - row]) + 0.025) / 1.05
                shares = np.clip(shares, 1e-6, 1 - 1e-6)
                cell = outputs[1][i, :13, row, column]
                cell[:2] = np.log(shares / (1 - shares))
                cell[2:4] = np.log([(x2 - x1) / aw, (y2 - y1) / ah])
                cell[4:] = [20] + [-20] * 8
                cell[5 + label] = 20
        return outputs

    found = task.evaluate(Predictor(run, task.contract(net)), "val", limit=7)
    assert found["map50"] == pytest.approx(1.0) and found["map"] > 0.99


def test_a_blind_network_scores_zero(task: Detection):
    def run(images: np.ndarray) -> list[np.ndarray]:
        return [np.full((len(images), 26, 96 // s, 96 // s), -20, np.float32) for s in (32, 16)]

    found = task.evaluate(Predictor(run, task.contract(Still())), "val")
    assert found["map50"] == found["map"] == 0.0 and found.counts["images"] == 7


def names(pictures: Sequence[Any]) -> list[str]:
    return [p.name for p in pictures]


def test_pictures_show_truth_and_every_network(task: Detection):
    good = perfect(task, "val")
    pictures = task.pictures({"dense": good, "int8": good}, 3)
    assert len(pictures) == 3 and len(set(names(pictures))) == 3
    for picture in pictures:
        image = cv2.imdecode(np.frombuffer(picture.data, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        assert image.shape[1] > 2.9 * (image.shape[0] - 24)  # three square panels
        assert picture.mime == "image/jpeg" and "dense" in picture.caption and "int8" in picture.caption
    again = task.pictures({"dense": good, "int8": good}, 3)
    assert [hashlib.sha256(p.data).digest() for p in again] == [
        hashlib.sha256(p.data).digest() for p in pictures
    ]
    assert task.pictures({"dense": good}, 0) == []


def test_no_picture_comes_twice(task: Detection):
    pictures = task.pictures({"dense": perfect(task, "val")}, 20)
    assert 1 < len(pictures) == len(set(names(pictures))) <= 7
