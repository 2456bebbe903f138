"""A detector used by its contract alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edgec.core.contract.detection import DetectionContract, Fit
from edgec.runtimes.contract_reading import contract_of_json
from edgec.tasks.detection.batch import collate
from edgec.tasks.detection.contract import detect_batch, finish, prepare, scaled
from edgec.tasks.detection.images import fit_image

HEADS = [
    {"anchors": [[16.0, 16.0], [40.0, 30.0]], "stride": 16, "scale_xy": 1.05, "classes": 3},
    {"anchors": [[60.0, 90.0]], "stride": 32, "scale_xy": 1.0, "classes": 3},
]


def contract(**changes: Any) -> DetectionContract:
    """A contract as a device reads it: from JSON."""
    tree: dict[str, Any] = {
        "task": "detection",
        "input": {
            "name": "images",
            "shape": [1, 3, 64, 96],
            "layout": "NCHW",
            "color": "RGB",
            "scale": 1 / 255,
            "fit": "letterbox",
            "pad_value": 114,
        },
        "output": "raw",
        "classes": ["a", "b", "c"],
        "heads": HEADS,
    }
    return DetectionContract.of(contract_of_json(json.dumps(tree | changes), "here"), "here")


def maps(batch: int = 1) -> list[np.ndarray]:
    """Raw maps that see nothing."""
    found = [
        np.zeros((batch, len(h["anchors"]) * 8, 64 // h["stride"], 96 // h["stride"]), np.float32)
        for h in HEADS
    ]
    for output, head in zip(found, HEADS, strict=True):
        for anchor in range(len(head["anchors"])):
            output[:, anchor * 8 + 4] = -20
    return found


def put(output: np.ndarray, anchor: int, row: int, column: int, label: int) -> None:
    """A sure object of the anchor's size in the middle of a cell."""
    output[0, anchor * 8 : anchor * 8 + 8, row, column] = [0, 0, 0, 0, 20, -20, -20, -20]
    output[0, anchor * 8 + 5 + label, row, column] = 20


def test_prepare_gives_the_input_that_the_contract_names():
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    tensor, placement = prepare(image, contract().input)
    assert tensor.shape == (3, 64, 96) and tensor.dtype == np.float32 and tensor.flags.c_contiguous
    assert np.allclose(tensor, image.transpose(2, 0, 1) / 255, atol=1e-6)
    assert (placement.scale_x, placement.offset_x) == (1, 0)


def test_prepare_pads_or_stretches_as_the_contract_says():
    image = np.full((64, 64, 3), 255, np.uint8)
    padded, _ = prepare(image, contract().input)
    assert np.allclose(padded[:, :, 0], 114 / 255) and np.allclose(padded[:, :, 16:80], 1)
    stretched = contract().input.model_copy(update={"fit": "stretch"})
    assert np.allclose(prepare(image, stretched)[0], 1)


def test_raw_maps_become_boxes_of_the_image():
    image = np.zeros((128, 192, 3), np.uint8)  # twice the input
    outputs = maps()
    put(outputs[0], 1, 1, 2, 2)
    put(outputs[1], 0, 0, 1, 0)
    _, placement = prepare(image, contract().input)
    found = finish(outputs, contract(), [placement])[0]
    order = np.argsort(found.labels)
    assert found.labels[order].tolist() == [0, 2] and (found.scores > 0.99).all()
    # cell (row 0, column 1) of stride 32: centre (48, 16), 60 x 90, clipped to the image
    assert np.allclose(found.boxes[order[0]], [36, 0, 156, 122], atol=0.01)
    assert np.allclose(found.boxes[order[1]], [40, 18, 120, 78], atol=0.01)


def test_nothing_seen_is_nothing_found():
    found = detect_batch(maps(2), contract(), 2)
    assert [len(f.boxes) for f in found] == [0, 0] and found[0].boxes.shape == (0, 4)


def test_overlapping_boxes_of_a_class_are_suppressed():
    outputs = maps()
    put(outputs[1], 0, 0, 1, 0)
    outputs[1][0, :, 0, 2] = outputs[1][0, :, 0, 1]
    outputs[1][0, 0, 0, 2] = -20  # its left border: 16 pixels from the first
    outputs[1][0, 4, 0, 2] = 2
    assert len(detect_batch(outputs, contract(), 1, iou_threshold=0.9)[0].boxes) == 2
    kept = detect_batch(outputs, contract(), 1, iou_threshold=0.3)[0]
    assert len(kept.boxes) == 1 and kept.scores[0] > 0.99


def test_the_score_threshold_is_kept():
    outputs = maps()
    put(outputs[1], 0, 0, 1, 0)
    outputs[1][0, 4, 0, 1] = 0  # objectness 0.5
    assert len(detect_batch(outputs, contract(), 1, score_threshold=0.6)[0].boxes) == 0
    assert len(detect_batch(outputs, contract(), 1, score_threshold=0.4)[0].boxes) == 1


def test_half_precision_maps_are_read():
    outputs = maps()
    put(outputs[1], 0, 0, 1, 0)
    assert len(detect_batch([o.astype(np.float16) for o in outputs], contract(), 1)[0].boxes) == 1


@pytest.mark.parametrize("label_type", [np.int64, np.int32, np.float32])
def test_boxes_from_the_graph_are_sorted_by_image_and_score(label_type: type):
    boxes = np.array([[0, 0, 5, 5], [10, 10, 30, 20], [7, 7, 9, 9]], np.float32)
    outputs = [
        boxes,
        np.array([0.3, 0.9, 0.8], np.float32),
        np.array([1, 2, 0], label_type),
        np.array([0, 0, 2], label_type),
    ]
    first, second, third = detect_batch(outputs, contract(output="boxes"), 3)
    assert first.boxes.tolist() == boxes[[1, 0]].tolist() and first.labels.tolist() == [2, 1]
    assert first.scores.tolist() == pytest.approx([0.9, 0.3]) and first.labels.dtype == np.int64
    assert second.boxes.shape == (0, 4)
    assert third.labels.tolist() == [0]
    assert len(detect_batch(outputs, contract(output="boxes"), 3, score_threshold=0.5)[0].boxes) == 1


def test_boxes_from_the_graph_are_placed_on_the_image():
    _, placement = prepare(np.zeros((128, 192, 3), np.uint8), contract().input)
    outputs = [
        np.array([[10.0, 10, 30, 20]], np.float32),
        np.array([0.9], np.float32),
        np.array([2]),
        np.array([0]),
    ]
    assert finish(outputs, contract(output="boxes"), [placement])[0].boxes.tolist() == [[20, 20, 60, 40]]


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
@pytest.mark.parametrize("size", [(64, 96), (50, 37), (333, 512), (7, 500)])
def test_preparation_by_the_contract_is_that_of_training_bit_for_bit(fit: Fit, size: tuple[int, int]) -> None:
    """Training divides bytes by 255 in single precision, and so do the figures that were published."""
    image = np.random.default_rng(size[0]).integers(0, 256, (*size, 3), dtype=np.uint8)
    wanted = contract().input.model_copy(update={"fit": fit})
    fitted, placed = fit_image(image, (64, 96), fit)
    divided = fitted.transpose(2, 0, 1).astype(np.float32) / 255
    trained = collate([(fitted, np.zeros((0, 4)), np.zeros(0))]).images[0].numpy()
    tensor, placement = prepare(image, wanted)
    assert tensor.dtype == np.float32 and placement == placed
    assert np.array_equal(tensor, divided) and np.array_equal(tensor, trained)


def test_all_levels_are_those_of_a_division() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    made = scaled(levels, contract().input)
    assert np.array_equal(made[0, 0].ravel(), np.arange(256, dtype=np.float32) / 255)
    assert made.transpose(0, 2, 3, 1).flags.c_contiguous  # images lie in memory as they were read


def test_padding_and_channel_order_are_the_contracts() -> None:
    image = np.full((64, 32, 3), (255, 128, 0), np.uint8)
    wanted = contract().input.model_copy(update={"pad_value": 7, "color": "BGR", "scale": 1.0})
    tensor, _ = prepare(image, wanted)
    assert (tensor[:, :, :32] == 7).all() and (tensor[:, :, -32:] == 7).all()
    assert tensor[:, 10, 48].tolist() == [0, 128, 255]


def test_boxes_of_single_images_are_numbered_and_cut_as_a_batch() -> None:
    """A graph with a fixed batch of one says image 0 each time."""
    boxes = contract(output="boxes")
    each = [
        [
            np.full((count, 4), index, np.float32),
            np.ones(count, np.float32),
            np.zeros(count, np.int64),
            np.zeros(count, np.int64),
        ]
        for index, count in enumerate((2, 0, 1))
    ]
    joined = boxes.joined(each)
    assert joined[3].tolist() == [0, 0, 2] and joined[0][:, 0].tolist() == [0, 0, 2]
    first = boxes.first(joined, 2)
    assert first[3].tolist() == [0, 0] and first[0].shape == (2, 4)
    raw = contract().joined([maps(), maps()])
    assert [o.shape[0] for o in raw] == [2, 2] and [o.shape[0] for o in contract().first(raw, 1)] == [1, 1]
