"""Graphs as torch modules compute what onnxruntime computes, the integers of int8 graphs too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgec.core.errors import StageError
from edgec.core.network import Network
from edgec.onnx.export import to_onnx
from edgec.onnx.parity import worst_snr_db
from edgec.onnx.session import OnnxSession
from edgec.onnx.to_torch import TorchGraph
from edgec.quantization.calibration import calibrate
from edgec.quantization.placement import place_pairs
from edgec.quantization.qdq_graph import insert_pairs

SIDE = 64


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).random((1, 3, SIDE, SIDE), dtype=np.float32)


def exported(arch: str, args: dict[str, Any]) -> onnx.ModelProto:
    net = Network.initial(arch, args, seed=0).build().eval()
    example = torch.zeros(1, 3, SIDE, SIDE)
    with torch.no_grad():
        made = net(example)
    names = [f"head{i}" for i in range(len(made))] if isinstance(made, list) else ["image"]
    return to_onnx(net, example, names)


def distance(model: onnx.ModelProto, images: np.ndarray) -> float:
    """dB between onnxruntime, as written, and torch."""
    with torch.no_grad():
        reached = [o.numpy() for o in TorchGraph(model).eval()(torch.from_numpy(images))]
    expected = OnnxSession(model.SerializeToString(), optimize=False).run({"images": images})
    assert [a.shape for a in reached] == [b.shape for b in expected]
    return worst_snr_db(expected, reached)


@pytest.mark.parametrize(
    ("arch", "args"),
    [
        ("yolov4_tiny", {"classes": 3, "width": 0.25}),
        ("yolov4_tiny", {"classes": 3, "width": 0.25, "activation": "swish"}),
        ("imdn", {"scale": 2, "features": 16, "blocks": 2}),
    ],
)
def test_a_network_and_its_int8_graph(arch: str, args: dict[str, Any], images: np.ndarray) -> None:
    model = exported(arch, args)
    assert distance(model, images) > 100
    ranges = calibrate(model, list(place_pairs(model).source), images, "minmax")
    int8 = insert_pairs(model, ranges)
    assert (
        distance(int8, images) > 25
    )  # sums of floats that fall on the other side of a level are all that differs
    assert (
        worst_snr_db(*(OnnxSession(m.SerializeToString()).run({"images": images}) for m in (model, int8)))
        < 60
    )


def test_integers_and_steps_arrive(images: np.ndarray) -> None:
    """Weights stay int8 with the artifact's scales, activations lose 128 of their zero points."""
    torch.manual_seed(0)
    model = to_onnx(nn.Sequential(nn.Conv2d(3, 4, 1)), torch.zeros(1, 3, SIDE, SIDE), ["out"])
    int8 = insert_pairs(model, {"images": (0.0, 1.0), "0:out": (-0.5, 1.5)})
    net = TorchGraph(int8).eval()
    stored = {i.name: numpy_helper.to_array(i) for i in int8.graph.initializer}
    kept = {name: net.get_buffer(buffer).numpy() for name, buffer in net.buffer_of.items()}
    assert np.array_equal(kept["0.weight_dq"], stored["0.weight_int"])
    assert np.array_equal(kept["0.weight_dq/scale"], stored["0.weight_scale"])
    bias = stored["0.weight_bias_int"] * stored["0.weight_bias_scale"]
    assert np.allclose(kept["0.weight_bias_dq"], bias, rtol=1e-6)
    assert {grid.signed_zero for grid in net.grids.values()} == {-128, 64 - 128}
    assert distance(int8, images) > 45


def test_a_rounded_concatenation_takes_what_has_its_step(images: np.ndarray) -> None:
    program = torch.export.export(TorchGraph(_joined()).eval(), (torch.from_numpy(images),))
    joined = [n for n in program.graph.nodes if n.target is torch.ops.aten.cat.default]
    assert len(joined) == 1
    steps = [source.args[1:3] for source in joined[0].args[0]]
    (after,) = joined[0].users
    assert steps == [after.args[1:3]] * 2
    assert distance(_joined(), images) > 60


def _joined() -> onnx.ModelProto:
    """Two roundings of one image, concatenated and rounded."""
    steps = {"a": 0.01, "b": 0.02, "c": 0.03}
    nodes: list[onnx.NodeProto] = []

    def pair(source: str, name: str) -> None:
        nodes.append(helper.make_node("QuantizeLinear", [source, name, "zero"], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", name, "zero"], [f"{name}_dq"]))

    pair("images", "a")
    pair("images", "b")
    nodes.append(helper.make_node("Concat", ["a_dq", "b_dq"], ["joined"], axis=1))
    pair("joined", "c")
    constants = [numpy_helper.from_array(np.array(v, np.float32), name) for name, v in steps.items()]
    constants.append(numpy_helper.from_array(np.array(7, np.uint8), "zero"))
    return graph_of(nodes, "c_dq", [1, 6, SIDE, SIDE], constants)


def graph_of(
    nodes: Sequence[onnx.NodeProto],
    output: str,
    shape: Sequence[int],
    constants: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    made = helper.make_tensor_value_info(output, TensorProto.FLOAT, list(shape))
    graph = helper.make_graph(list(nodes), "graph", [images], [made], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def ints(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


@pytest.mark.parametrize(
    ("kind", "constants", "given", "shape"),
    [
        ("MaxPool", [], {"kernel_shape": [2, 2], "strides": [2, 2]}, [1, 3, 32, 32]),
        ("MaxPool", [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, [1, 3, SIDE, SIDE]),
        ("ReduceMean", [ints("axes", 2, 3)], {}, [1, 3, 1, 1]),
        ("Reshape", [ints("shape", 0, 3, -1)], {}, [1, 3, SIDE * SIDE]),
        ("Slice", [ints("starts", 1, -8), ints("ends", 3, 2**62), ints("axes", 1, 3)], {}, [1, 2, SIDE, 8]),
        ("Unsqueeze", [ints("axes", 0, 2)], {}, [1, 1, 1, 3, SIDE, SIDE]),
        ("Squeeze", [ints("axes", 0)], {}, [3, SIDE, SIDE]),
        ("Transpose", [], {"perm": [0, 2, 3, 1]}, [1, SIDE, SIDE, 3]),
        ("HardSigmoid", [], {"alpha": 0.3, "beta": 0.1}, [1, 3, SIDE, SIDE]),
        ("HardSwish", [], {}, [1, 3, SIDE, SIDE]),
        ("GlobalAveragePool", [], {}, [1, 3, 1, 1]),
    ],
)
def test_an_operator(
    kind: str, constants: list[onnx.TensorProto], given: dict[str, Any], shape: list[int], images: np.ndarray
) -> None:
    node = helper.make_node(kind, ["images", *(c.name for c in constants)], ["out"], **given)
    assert distance(graph_of([node], "out", shape, constants), images - 0.5) > 100


def test_an_uneven_padding(images: np.ndarray) -> None:
    weight = numpy_helper.from_array(np.random.default_rng(1).random((2, 3, 3, 3), dtype=np.float32), "w")
    node = helper.make_node("Conv", ["images", "w"], ["out"], pads=[0, 1, 2, 0], strides=[1, 2])
    assert distance(graph_of([node], "out", [1, 2, SIDE, SIDE // 2], [weight]), images) > 100


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: [helper.make_node("Sin", ["images"], ["a"]), helper.make_node("Cos", ["a"], ["out"])],
            "Cos, Sin: not translated",
        ),
        (
            lambda: [helper.make_node("Split", ["images"], ["out", "b"], axis=2, num_outputs=2)],
            "Split, Split with 2 outputs",
        ),
        (lambda: [helper.make_node("DepthToSpace", ["images"], ["out"], blocksize=2)], "mode DCR"),
        (
            lambda: [
                helper.make_node("MaxPool", ["images"], ["out"], kernel_shape=[2, 2], pads=[0, 0, 1, 1])
            ],
            "padding on one side",
        ),
    ],
)
def test_what_is_not_translated_is_named(
    make: Callable[[], list[onnx.NodeProto]], message: str, images: np.ndarray
) -> None:
    with pytest.raises(StageError, match=message):
        TorchGraph(graph_of(make(), "out", [1, 3, SIDE, SIDE]))(torch.from_numpy(images))
