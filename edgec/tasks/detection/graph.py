"""Decoded boxes and non-maximum suppression inside an exported graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx
from onnx import TensorProto, helper
from torch import Tensor, nn

from edgec.tasks.detection.decode import decode
from edgec.tasks.detection.heads import heads_of

BOXES, SCORES = "decoded_boxes", "decoded_scores"


def decoder(net: nn.Module) -> Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]]:
    """From the raw maps of `net` to (boxes [n, k, 4] xyxy pixels of the network input, scores [n, classes, k])."""
    heads = heads_of(net)

    def decoded(outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        boxes, scores = decode(outputs, heads)
        return boxes, scores.transpose(1, 2)

    return decoded


def append_nms(
    model: onnx.ModelProto, score_threshold: float, iou_threshold: float, max_detections: int
) -> onnx.ModelProto:
    """The graph of a network and its `decoder` with class-wise suppression behind it.

    Outputs, for all images of the batch together: boxes [k, 4] float32 xyxy, scores [k] float32, labels [k] int64,
    image [k] int64. At most `max_detections` a class and image.
    """
    graph = model.graph

    def constant(name: str, kind: int, shape: list[int], values: list[float] | list[int]) -> str:
        graph.initializer.append(helper.make_tensor(f"nms_{name}", kind, shape, values))
        return f"nms_{name}"

    most = constant("max", TensorProto.INT64, [1], [max_detections])
    iou = constant("iou", TensorProto.FLOAT, [1], [iou_threshold])
    score = constant("score", TensorProto.FLOAT, [1], [score_threshold])
    zero = constant("zero", TensorProto.INT64, [1], [0])
    one = constant("one", TensorProto.INT64, [1], [1])
    picks = constant("picks", TensorProto.INT64, [2], [0, 2])
    nodes = [
        helper.make_node(
            "NonMaxSuppression", [BOXES, SCORES, most, iou, score], ["nms_found"], "nms", center_point_box=0
        ),
        helper.make_node("Gather", ["nms_found", picks], ["nms_image_box"], "nms_image_box", axis=1),
        helper.make_node("GatherND", [BOXES, "nms_image_box"], ["boxes"], "nms_boxes"),
        helper.make_node("GatherND", [SCORES, "nms_found"], ["scores"], "nms_scores"),
        helper.make_node("Gather", ["nms_found", one], ["nms_labels"], "nms_labels", axis=1),
        helper.make_node("Squeeze", ["nms_labels", one], ["labels"], "nms_labels_flat"),
        helper.make_node("Gather", ["nms_found", zero], ["nms_images"], "nms_images", axis=1),
        helper.make_node("Squeeze", ["nms_images", one], ["image"], "nms_images_flat"),
    ]
    graph.node.extend(nodes)
    del graph.output[:]
    graph.output.extend(
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["found", 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["found"]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["found"]),
            helper.make_tensor_value_info("image", TensorProto.INT64, ["found"]),
        ]
    )
    return model
