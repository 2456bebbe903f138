"""Boxes from inside the graph against boxes from the host, in every precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch

from edgec.core.contract.detection import DetectionContract, DetectionInput, Head
from edgec.core.network import Network
from edgec.onnx.export import to_onnx
from edgec.onnx.fp16 import to_fp16
from edgec.onnx.graph import validate
from edgec.onnx.session import OnnxSession
from edgec.quantization.calibration import calibrate
from edgec.quantization.placement import place_pairs
from edgec.quantization.qdq_graph import insert_pairs
from edgec.tasks.detection.contract import detect_batch
from edgec.tasks.detection.decode import Detections, decode, detections
from edgec.tasks.detection.graph import BOXES, SCORES, append_nms, decoder
from edgec.tasks.detection.heads import heads_of

SCORE, IOU, MOST = 0.3, 0.45, 50
BOXES_CONTRACT = DetectionContract(
    input=DetectionInput(name="images", shape=(1, 3, 96, 128), scale=1 / 255, fit="stretch", pad_value=114),
    output="boxes",
    classes=("a", "b", "c"),
    heads=(Head(((8.0, 8.0),), 16, 1.0, 3),),
)


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    """A detector that sees something almost everywhere."""
    made = Network.initial("yolov4_tiny", {"classes": 3, "width": 0.25}, seed=1).build()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in ("head32", "head16"):
            made.get_parameter(f"{name}.weight").normal_(0, 0.3, generator=generator)
            made.get_parameter(f"{name}.bias").normal_(0, 0.3, generator=generator)
    return made


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).random((3, 3, 96, 128), dtype=np.float32)


@pytest.fixture(scope="module")
def decoded(net: torch.nn.Module) -> onnx.ModelProto:
    """The graph up to the boxes, with a free batch size."""
    return to_onnx(net, torch.zeros(1, 3, 96, 128), [BOXES, SCORES], dynamic_batch=True, tail=decoder(net))


def finished(model: onnx.ModelProto, **settings: Any) -> OnnxSession:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    chosen = {"score_threshold": SCORE, "iou_threshold": IOU, "max_detections": MOST, **settings}
    made = append_nms(copy, **chosen)
    validate(made)
    return OnnxSession(made.SerializeToString())


def on_the_host(net: torch.nn.Module, images: np.ndarray) -> list[Detections]:
    with torch.no_grad():
        boxes, scores = decode(net(torch.from_numpy(images)), heads_of(net))
    return detections(boxes.numpy(), scores.numpy(), SCORE, IOU, 10_000)


def test_decoded_maps_are_torchs(net: torch.nn.Module, decoded: onnx.ModelProto, images: np.ndarray) -> None:
    boxes, scores = OnnxSession(decoded.SerializeToString()).run({"images": images})
    with torch.no_grad():
        expected_boxes, expected_scores = decode(net(torch.from_numpy(images)), heads_of(net))
    cells = 3 * (3 * 4 + 6 * 8)
    assert boxes.shape == (3, cells, 4)
    assert scores.shape == (3, 3, cells)  # classes before boxes, as the suppression wants them
    np.testing.assert_allclose(boxes, expected_boxes.numpy(), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(scores.transpose(0, 2, 1), expected_scores.numpy(), atol=1e-4)


@pytest.mark.parametrize("count", [1, 3])
def test_boxes_equal_those_of_the_host(
    net: torch.nn.Module, decoded: onnx.ModelProto, images: np.ndarray, count: int
) -> None:
    outputs = finished(decoded, max_detections=10_000).run({"images": images[:count]})
    assert [o.dtype for o in outputs] == [np.float32, np.float32, np.int64, np.int64]
    reached = detect_batch(outputs, BOXES_CONTRACT, count, SCORE)
    expected = on_the_host(net, images[:count])
    for a, b in zip(reached, expected, strict=True):
        assert len(b.boxes) > 5
        assert len(a.boxes) == len(b.boxes)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)
        np.testing.assert_array_equal(a.labels, b.labels)
        np.testing.assert_allclose(a.boxes, b.boxes, rtol=1e-3, atol=2e-2)
    assert len(outputs[0]) == sum(len(b.boxes) for b in expected)


def test_thresholds_are_kept(decoded: onnx.ModelProto, images: np.ndarray) -> None:
    _, scores, labels, image = finished(decoded, score_threshold=0.5, max_detections=2).run(
        {"images": images}
    )
    assert scores.size
    assert scores.min() > 0.5
    assert max(np.unique(np.stack([image, labels]), axis=1, return_counts=True)[1]) <= 2
    nothing = finished(decoded, score_threshold=1.0).run({"images": images})
    assert [o.shape for o in nothing] == [(0, 4), (0,), (0,), (0,)]


def test_fixed_batch_has_boxes_too(net: torch.nn.Module, images: np.ndarray) -> None:
    model = to_onnx(net, torch.zeros(1, 3, 96, 128), [BOXES, SCORES], opset=21, tail=decoder(net))
    outputs = finished(model, max_detections=10_000).run({"images": images[:1]})
    found = detect_batch(outputs, BOXES_CONTRACT, 1, SCORE)[0]
    np.testing.assert_allclose(found.scores, on_the_host(net, images[:1])[0].scores, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_smaller_precisions_find_the_same_strong_boxes(
    net: torch.nn.Module, decoded: onnx.ModelProto, images: np.ndarray, precision: str
) -> None:
    if precision == "fp16":
        model = to_fp16(decoded)
    else:
        raw = to_onnx(net, torch.zeros(1, 3, 96, 128), ["head0", "head1"], dynamic_batch=True)
        ranges = calibrate(raw, list(place_pairs(raw).source), images, "minmax")
        model = insert_pairs(decoded, ranges)  # calibrated on the raw graph, as the quantize stage does
        convs = [n for n in model.graph.node if n.op_type == "Conv"]
        assert all(n.input[1].endswith("_dq") for n in convs)
    found = detect_batch(finished(model).run({"images": images}), BOXES_CONTRACT, 3, SCORE)
    for a, b in zip(found, on_the_host(net, images), strict=True):
        for box, score, label in zip(b.boxes[:3], b.scores[:3], b.labels[:3], strict=True):
            same = a.labels == label
            nearest = np.abs(a.boxes[same] - box).max(1)
            size = max(box[2] - box[0], box[3] - box[1])
            near = a.scores[same][nearest < 0.1 * size]
            assert near.size
            assert abs(near.max() - score) < 0.1
