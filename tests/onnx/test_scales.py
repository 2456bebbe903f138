"""The float graph under a QDQ graph, and the scales that other runtimes get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgec.core.errors import StageError
from edgec.onnx.export import to_onnx
from edgec.onnx.parity import snr_db
from edgec.onnx.scales import without_pairs
from edgec.onnx.session import OnnxSession
from edgec.quantization.calibration import calibrate
from edgec.quantization.placement import place_pairs
from edgec.quantization.qdq_graph import insert_pairs
from edgec.quantization.weights.compact import compact
from edgec.runtimes.converters.mnn import compression, convert
from edgec.runtimes.converters.ncnn import with_scales
from edgec.runtimes.source import ConversionSource


@pytest.fixture(scope="module")
def graphs() -> tuple[onnx.ModelProto, onnx.ModelProto, np.ndarray]:
    """(float graph, its compact QDQ graph, images)"""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(),
                        nn.MaxPool2d(2), nn.Conv2d(8, 5, 1))  # fmt: skip
    images = np.random.default_rng(0).random((4, 3, 16, 16), dtype=np.float32)
    model = to_onnx(net.eval(), torch.zeros(1, 3, 16, 16), ["out"], dynamic_batch=True)
    ranges = calibrate(model, list(place_pairs(model).source), images, "minmax", 99.99, 4)
    return model, compact(insert_pairs(model, ranges)), images


def test_the_float_graph_comes_back(graphs: Any) -> None:
    model, whole, images = graphs
    plain, layers = without_pairs(whole)
    onnx.checker.check_model(plain, full_check=True)
    assert {n.op_type for n in plain.graph.node} == {n.op_type for n in model.graph.node}
    assert [o.name for o in plain.graph.output] == ["out"]
    (a,), (b,) = (OnnxSession(m.SerializeToString()).run({"images": images}) for m in (model, plain))
    assert 30 < snr_db(a, b) < 80  # weights are rounded, nothing else
    assert len(layers) == 3
    for layer in layers.values():
        assert layer.integers.dtype == np.int8
        assert layer.input_grid.scale > 0 and layer.output_grid is not None
    first = next(iter(layers.values()))
    assert first.input == "images"
    assert first.input_grid.zero == 0


def test_a_float_graph_stays_as_it_is(graphs: Any) -> None:
    model, _, images = graphs
    plain, layers = without_pairs(model)
    assert layers == {}
    (a,), (b,) = (OnnxSession(m.SerializeToString()).run({"images": images}) for m in (model, plain))
    assert np.array_equal(a, b)


def test_ncnn_files_get_the_integers_and_the_scales(graphs: Any) -> None:
    """A file as pnnx writes it: tags, weights, biases, in the order of the layers."""
    _, layers = without_pairs(graphs[1])
    rng = np.random.default_rng(1)
    lines, data = ["7767517", "5 5", "Input in0 0 1 in0"], b""
    for index, layer in enumerate(layers.values()):
        out = len(layer.integers)
        kind = "ConvolutionDepthWise" if index == 1 else "Convolution"
        lines.append(f"{kind} conv{index} 1 1 {index} {index + 1} 0={out} 5=1 6={layer.integers.size}")
        bias = rng.random(out, dtype=np.float32)
        data += bytes(4) + layer.weight.astype("<f4").tobytes() + bias.tobytes()
    text, made = with_scales("\n".join(lines), data, list(layers.values()), "tiny")
    assert text.splitlines()[3].endswith("8=2") and text.splitlines()[4].endswith("8=1")
    first = next(iter(layers.values()))
    assert made[:4] == (0x000D4B38).to_bytes(4, "little")
    assert made[4 : 4 + first.integers.size] == first.integers.tobytes()
    end = 4 + first.integers.size + 4 * len(first.integers)
    scales = np.frombuffer(made[end : end + 4 * len(first.integers)], "<f4")
    assert np.allclose(scales, 1 / first.weight_scale)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text, data: (text, data + bytes(8)), "belong to no known layer"),
        (lambda text, data: (text, data[:-4]), "end too early"),
        (lambda text, data: (text.replace("Input in0 0 1 in0", "LSTM x 1 1 a b"), data), "layer of type LSTM"),
        (lambda text, data: (text, bytes(4) + np.zeros(216, "<f4").tobytes() + data[4 + 864 :]), "changed the weights"),
        (lambda text, data: (text, b"\x47\x6b\x30\x01" + data[4:]), "tagged 0x1306b47"),
    ],
)  # fmt: skip
def test_ncnn_files_that_are_not_understood_are_refused(graphs: Any, change: Any, told: str) -> None:
    _, layers = without_pairs(graphs[1])
    first = next(iter(layers.values()))
    line = f"Convolution c 1 1 a b 0={len(first.integers)} 5=0 6={first.integers.size}"
    text = "\n".join(["7767517", "2 2", "Input in0 0 1 in0", line])
    data = bytes(4) + first.weight.astype("<f4").tobytes()
    assert with_scales(text, data, [first], "tiny")[1]
    text, data = change(text, data)
    with pytest.raises(StageError, match=told):
        with_scales(text, data, [first], "tiny")


def test_mnn_parameters_are_the_message_that_its_converter_reads(graphs: Any) -> None:
    """Read back with protobuf's own reader, from a description of the message."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    text, number, real, string, message = 9, 5, 2, 9, 11
    file = descriptor_pb2.FileDescriptorProto(name="m.proto", package="m", syntax="proto2")

    def add(name: str, *fields: tuple[int, str, int, bool, str]) -> None:
        made = file.message_type.add(name=name)
        for index, label, kind, repeated, of in fields:
            given = made.field.add(name=label, number=index, type=kind, label=3 if repeated else 1)
            if of:
                given.type_name = f".m.{of}"

    add("Act", (1, "name", string, False, ""), (2, "bits", number, False, ""), (3, "scales", real, True, ""),
        (4, "zero", number, False, ""), (5, "low", number, False, ""), (6, "high", number, False, ""))  # fmt: skip
    add("Weight", (1, "name", string, False, ""), (2, "bits", number, False, ""), (3, "scales", real, True, ""),
        (4, "low", number, False, ""), (5, "high", number, False, ""))  # fmt: skip
    add("Layer", (1, "input", message, True, "Act"), (2, "weight", message, True, "Weight"), (3, "output", message, True, "Act"),
        (4, "method", number, False, ""), (6, "op", text, False, ""))  # fmt: skip
    add("Params", (1, "round", number, False, ""), (4, "layer", message, True, "Layer"))
    add("Algo", (1, "type", number, False, ""), (2, "quant", message, False, "Params"))
    add("Pipeline", (1, "version", string, False, ""), (2, "algo", message, True, "Algo"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    pipeline = message_factory.GetMessageClass(pool.FindMessageTypeByName("m.Pipeline"))()
    _, layers = without_pairs(graphs[1])
    pipeline.ParseFromString(compression(list(layers.values())))
    read = pipeline.algo[0].quant.layer  # type: ignore[attr-defined]
    assert len(read) == 3
    for told, layer in zip(read, layers.values(), strict=True):
        assert told.input[0].name == layer.input
        assert told.input[0].zero == layer.input_grid.signed_zero
        assert np.allclose(told.weight[0].scales, layer.weight_scale)
        assert (told.weight[0].low, told.weight[0].high, told.output[0].low) == (-127, 127, -128)


def test_mnn_refuses_a_convolution_that_gives_float(graphs: Any, tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(graphs[1])
    (last,) = (n for n in model.graph.node if "out" in n.output)  # the pair behind the last convolution
    quantize = next(n for n in model.graph.node if n.output[0] == last.input[0])
    convolution = next(n for n in model.graph.node if n.output[0] == quantize.input[0])
    convolution.output[0] = "out"
    for node in (last, quantize):
        model.graph.node.remove(node)
    source = ConversionSource(tmp_path / "a.onnx", model, "int8", {"images": [1, 3, 16, 16]})
    with pytest.raises(StageError, match="both sides of a convolution"):
        convert(source, tmp_path)
