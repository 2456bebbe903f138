"""Raw maps to boxes, boxes to detections."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgec.core.contract.detection import Head
from edgec.onnx.export import to_onnx
from edgec.tasks.detection.decode import decode, decode_map, detections, split_map

HEADS = (
    Head(((10.0, 14.0), (23.0, 27.0), (37.0, 58.0)), 16, 1.05, 4),
    Head(((81.0, 82.0), (135.0, 169.0)), 32, 1.2, 4),
)


def random_maps(batch: int = 2, rows: int = 4, columns: int = 6, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, h.channels, rows * 32 // h.stride, columns * 32 // h.stride) for h in HEADS]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def decoded_by_hand(
    output: np.ndarray, head: Head, anchor: int, row: int, column: int
) -> tuple[list[float], list[float]]:
    """The formulas of darknet's yolo layer for one cell of an image [a * (5 + c), h, w]."""
    cell = output.reshape(len(head.anchors), 5 + head.classes, *output.shape[1:])[anchor, :, row, column]
    tx, ty, tw, th, objectness, *classes = cell.tolist()
    s = head.scale_xy
    x = (column + s * sigmoid(tx) - (s - 1) / 2) * head.stride
    y = (row + s * sigmoid(ty) - (s - 1) / 2) * head.stride
    w, h = (math.exp(t) * size for t, size in zip((tw, th), head.anchors[anchor], strict=True))
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2], [sigmoid(objectness) * sigmoid(c) for c in classes]


def test_every_cell_decodes_as_darknet_has_it():
    maps = random_maps()
    boxes, scores = decode(maps, HEADS)
    assert boxes.shape == (2, 3 * 8 * 12 + 2 * 4 * 6, 4) and scores.shape == (2, boxes.shape[1], 4)
    for image in range(2):
        k = 0
        for output, head in zip(maps, HEADS, strict=True):
            for anchor in range(len(head.anchors)):
                for row in range(output.shape[2]):
                    for column in range(output.shape[3]):
                        box, score = decoded_by_hand(output[image].numpy(), head, anchor, row, column)
                        assert boxes[image, k].tolist() == pytest.approx(box, rel=1e-4, abs=1e-3)
                        assert scores[image, k].tolist() == pytest.approx(score, rel=1e-4, abs=1e-6)
                        k += 1


def test_zeros_decode_to_the_anchor_in_the_middle_of_the_cell():
    head = HEADS[1]
    boxes, objectness, classes = decode_map(torch.zeros(1, head.channels, 3, 3), head)
    assert boxes[0, 0, 1, 2].tolist() == pytest.approx([80 - 40.5, 48 - 41, 80 + 40.5, 48 + 41])
    assert objectness.shape == (1, 2, 3, 3) and classes.shape == (1, 2, 3, 3, 4)


def test_the_logits_are_handed_out_as_they_are():
    output = random_maps()[0]
    _, objectness, classes = decode_map(output, HEADS[0])
    assert torch.equal(objectness[:, 1], output[:, 9 + 4])
    assert torch.equal(classes[:, 2, :, :, 3], output[:, 2 * 9 + 5 + 3])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_maps_are_decoded_in_float32(kind: torch.dtype):
    maps = [output.to(kind) for output in random_maps()]
    boxes, scores = decode(maps, HEADS)
    same_boxes, same_scores = decode([output.float() for output in maps], HEADS)
    assert boxes.dtype == scores.dtype == torch.float32
    assert torch.equal(boxes, same_boxes) and torch.equal(scores, same_scores)
    assert split_map(maps[0], HEADS[0]).dtype == torch.float32


def test_wild_logits_give_finite_boxes_and_gradients():
    output = (random_maps(1)[0] * 1e4).requires_grad_()
    boxes, scores = decode([output], HEADS[:1])
    assert boxes.isfinite().all() and scores.isfinite().all() and (scores >= 0).all() and (scores <= 1).all()
    (boxes.sum() + scores.sum()).backward()
    assert output.grad is not None and output.grad.isfinite().all()


def test_maps_and_heads_must_be_as_many():
    with pytest.raises(ValueError):
        decode(random_maps()[:1], HEADS)


class Small(nn.Module):
    """A detector of one convolution a head."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, h.channels, h.stride, h.stride) for h in HEADS)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [conv(images) for conv in self.convs]


class Decoded(nn.Module):
    """A detector with the decoding in its graph."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.heads = net, HEADS

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return decode(self.net(images), self.heads)


def small() -> Small:
    torch.manual_seed(0)
    return Small().eval()


def check_graph(model: bytes, net: nn.Module, *shapes: tuple[int, int, int, int]) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for shape in shapes:
        images = torch.rand(shape)
        with torch.inference_mode():
            boxes, scores = Decoded(net)(images)
        found = session.run(["boxes", "scores"], {"images": images.numpy()})
        np.testing.assert_allclose(found[0], boxes.numpy(), rtol=1e-4, atol=1e-2)
        np.testing.assert_allclose(found[1], scores.numpy(), rtol=1e-4, atol=1e-5)


def test_decoding_inside_a_graph_of_fixed_size():
    net = small()
    model = to_onnx(Decoded(net), torch.zeros(1, 3, 64, 96), ["boxes", "scores"])
    check_graph(model.SerializeToString(), net, (1, 3, 64, 96))


def test_decoding_inside_a_graph_with_any_batch():
    net = small()
    model = to_onnx(Decoded(net), torch.zeros(1, 3, 64, 96), ["boxes", "scores"], dynamic_batch=True)
    check_graph(model.SerializeToString(), net, (1, 3, 64, 96), (3, 3, 64, 96))


@pytest.mark.filterwarnings("ignore")
def test_decoding_inside_a_graph_with_any_size():
    net, buffer = small(), io.BytesIO()
    axes = {"images": {0: "n", 2: "h", 3: "w"}, "boxes": {0: "n", 1: "k"}, "scores": {0: "n", 1: "k"}}
    written: Any = buffer  # torch says paths alone
    torch.onnx.export(
        Decoded(net), (torch.zeros(2, 3, 64, 96),), written, dynamo=False, opset_version=17,
        input_names=["images"], output_names=["boxes", "scores"], dynamic_axes=axes,
    )  # fmt: skip
    check_graph(buffer.getvalue(), net, (1, 3, 64, 96), (2, 3, 96, 128))


# --- suppression


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.clip(high - low, 0, None).prod())
    return shared / float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


def suppressed_by_hand(
    boxes: np.ndarray, scores: np.ndarray, threshold: float, iou: float
) -> set[tuple[int, int]]:
    """(box, class) pairs that greedy class-wise suppression keeps."""
    kept: set[tuple[int, int]] = set()
    for label in range(scores.shape[1]):
        mine: list[int] = []
        for k in np.argsort(-scores[:, label]):
            if scores[k, label] > threshold and all(overlap(boxes[k], boxes[j]) <= iou for j in mine):
                mine.append(int(k))
        kept |= {(k, label) for k in mine}
    return kept


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("iou", [0.3, 0.45, 0.7])
def test_suppression_is_greedy_within_each_class(seed: int, iou: float):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 60, (2, 80, 2)), rng.uniform(10, 60, (2, 80, 2))
    boxes = np.concatenate([corner, corner + size], 2).astype(np.float32)
    scores = rng.random((2, 80, 3), np.float32)
    for image, found in enumerate(detections(boxes, scores, 0.5, iou)):
        rows = [int(np.flatnonzero((boxes[image] == box).all(1))[0]) for box in found.boxes]
        pairs = set(zip(rows, found.labels.tolist(), strict=True))
        assert pairs == suppressed_by_hand(boxes[image], scores[image], 0.5, iou)
        assert len(pairs) == len(rows)
        assert found.scores.tolist() == [scores[image, k, c] for k, c in zip(rows, found.labels, strict=True)]
        assert (np.diff(found.scores) <= 0).all()


def test_a_box_counts_for_every_class_above_the_threshold():
    boxes = np.array([[[0, 0, 10, 10]]], np.float32)
    found = detections(boxes, np.array([[[0.9, 0.2, 0.6]]], np.float32), 0.3)[0]
    assert found.labels.tolist() == [0, 2] and found.scores.tolist() == pytest.approx([0.9, 0.6])
    assert (found.boxes == boxes[0]).all()


@pytest.mark.parametrize("iou", [0.45, 0.05])
def test_classes_do_not_suppress_each_other_where_boxes_leave_the_image(iou: float):
    boxes = np.array([[[-300, -300, 340, 340], [-310, -310, 335, 345]]], np.float32)
    scores = np.array([[[0.9, 0.0], [0.0, 0.8]]], np.float32)
    assert detections(boxes, scores, 0.1, iou)[0].labels.tolist() == [0, 1]


def test_only_the_best_are_kept():
    boxes = np.arange(50, dtype=np.float32)[None, :, None] * 20 + np.array([0, 0, 10, 10], np.float32)
    scores = np.random.default_rng(0).random((1, 50, 1), np.float32)
    found = detections(boxes, scores, 0.0, max_detections=7)[0]
    assert found.scores.tolist() == np.sort(scores.ravel())[::-1][:7].tolist()


def test_nothing_above_the_threshold_is_empty():
    found = detections(np.zeros((2, 5, 4), np.float32), np.full((2, 5, 3), 0.004, np.float32))
    assert [(f.boxes.shape, f.scores.shape, f.labels.shape) for f in found] == [((0, 4), (0,), (0,))] * 2


def test_types_are_the_same_with_and_without_a_find():
    boxes = np.array([[[0, 0, 10, 10]], [[0, 0, 10, 10]]], np.float64)
    for found in detections(boxes, np.array([[[0.9]], [[0.0]]], np.float64)):
        assert found.boxes.dtype == found.scores.dtype == np.float32 and found.labels.dtype == np.int64
