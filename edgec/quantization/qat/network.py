"""The network that training with quantization sees: traced, with batch norms folded, rounding where its int8 graph will.

The ONNX graph decides where quantizers stand, by the rule of `qdq.place`; tensors of the two graphs are recognised by
their values on one input. So what is trained is what is exported, whatever operators are called on either side.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, fx, nn
from torch._decomp import get_decompositions
from torch.fx.graph import CodeGen

from edgec.core.errors import StageError
from edgec.core.grid import Range, Ranges
from edgec.core.taps import tapped
from edgec.onnx.graph import producers
from edgec.quantization.calibration import values_of
from edgec.quantization.placement import keys_of, place, quantizable
from edgec.quantization.qat.fake_quantizers import (
    ActivationQuantizer,
    BiasQuantizer,
    Movement,
    WeightQuantizer,
)
from edgec.quantization.weights.buckets import BucketQuantizer
from edgec.quantization.weights.codebook import CodebookQuantizer
from edgec.quantization.weights.formats import EIGHT_BITS, UNIT, Formats, WeightFormat

NEAR = 1e-3  # of a tensor's norm: how far its values may lie apart in the two graphs
EXPLICIT = [torch.ops.aten.silu.default]  # written as the operators that ONNX has for them
Rounding = WeightQuantizer | CodebookQuantizer | BucketQuantizer
# of ONNX's operators, without underscores and "2d", where they are not ONNX's own name in small letters
TORCH_NAMES: dict[str, tuple[str, ...]] = {
    "AveragePool": ("avgpool",),
    "Clip": ("hardtanh", "clamp", "relu6"),
    "Concat": ("cat",),
    "Conv": ("conv", "convolution"),
    "DepthToSpace": ("pixelshuffle",),
    "GlobalAveragePool": ("adaptiveavgpool", "mean"),
    "ReduceMean": ("mean",),
    "Resize": ("upsamplenearest", "upsamplebilinear", "upsamplebicubic"),
}
CONVOLUTIONS = (torch.ops.aten.conv2d.default, torch.ops.aten.convolution.default)


class Tap(nn.Module):
    """Where distillers read a feature; channels that were scaled to be equal are scaled back."""

    def __init__(self, factors: Tensor | None) -> None:
        super().__init__()
        self.factors: Tensor | None
        self.register_buffer("factors", None if factors is None else factors.view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x if self.factors is None else x / self.factors


class FusedNetwork(nn.Module):
    """A traced network with quantizers. It answers for what it was made from: heads, scale factor and the like."""

    def __init__(self, graph: fx.GraphModule, like: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.graph = graph
        self.__dict__["like"] = like  # not a part of this module
        self.unseen: list[str] = []  # tensors that only the int8 graph rounds
        with torch.no_grad():
            self.single = isinstance(like(example), Tensor)

    def forward(self, images: Tensor) -> Any:
        outputs = self.graph(images)
        return outputs[0] if self.single else list(outputs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["like"], name)

    def activations(self) -> Iterator[tuple[str, ActivationQuantizer]]:
        """The quantizers of tensors, by key."""
        for module in self.graph.modules():
            if isinstance(module, ActivationQuantizer):
                yield module.key, module

    def weights(self) -> Iterator[tuple[str, Rounding]]:
        """The quantizers of weights, by layer."""
        for module in self.graph.modules():
            if isinstance(module, Rounding):
                yield module.layer, module


def fuse(
    net: nn.Module, model: onnx.ModelProto, bounds: Ranges, float_layers: Collection[str], example: Tensor, *,
    formats: Formats, activation_bits: int = 8, ranges: Movement = "learned", points: bool = True,
    taps: Mapping[str, Tensor | None] | None = None,
) -> FusedNetwork:  # fmt: skip
    """A network, its batch norms folded, with quantizers where the int8 graph of `model` has its pairs.

    `model` is the float graph of `net`, `bounds` its calibrated ranges. `taps`: modules of `net` that can be read as
    `graph.<tap_name>`, with factors of their channels. `points`: whether codebooks are learned. `example` [1, c, h, w].
    Raises StageError when the network cannot be traced.
    """
    graph = _traced(net, example)
    probe = torch.rand(example.shape, generator=torch.Generator().manual_seed(0))
    values = Values(graph).of(probe)
    fused = FusedNetwork(graph, net, example)
    placement, keys = place(model, float_layers), keys_of(model)
    operators = operators_of(model)
    readers = [output for outputs in placement.unrounded.values() for output in outputs]
    seen = values_of(model, list(dict.fromkeys((*placement.source, *readers))), probe.numpy())
    quantizers: dict[str, str] = {}  # tensor key -> module
    rounded: dict[fx.Node, fx.Node] = {}  # a node -> its rounded value
    for tensor, source in placement.source.items():
        node, key = same(values, seen[tensor], operators.get(tensor)), keys.get(source, source)
        if node is None:
            fused.unseen.append(keys.get(tensor, tensor))
        elif node not in rounded:
            if key not in quantizers:
                quantizers[key] = f"quantize_{len(quantizers)}"
                quantizer = ActivationQuantizer(key, *bounds[key], activation_bits, ranges)
                graph.add_submodule(quantizers[key], quantizer)
            users = [(n, value) for n, value in values if n in node.users]
            unrounded = placement.unrounded.get(tensor, ())
            in_float = {same(users, seen[output], operators.get(output)) for output in unrounded}
            rounded[node] = _after(graph, node, quantizers[key], in_float)
    chosen = set(quantizable(model)) - (set(float_layers) - set(formats))
    for index, (layer, node) in enumerate(_convolutions(graph, chosen)):
        weight: Tensor = net.get_submodule(layer).weight  # type: ignore[assignment]
        quantizer = _weight_quantizer(layer, weight, formats, ranges, points)
        _round_weights(graph, node, f"weights_{index}", quantizer)
        if layer not in float_layers and not isinstance(quantizer, BucketQuantizer):
            _round_bias(graph, node, f"bias_{index}", quantizer)
    for name, value in _features(net, list(taps or {}), probe).items():
        node = _output_of(name, values, value.numpy())
        if node is None:
            raise StageError(
                f"tap {name!r}: its output is not a tensor of the traced network; tap another module"
            )
        graph.add_submodule(tap_name(name), Tap((taps or {})[name]))
        at = rounded.get(node, node)
        with graph.graph.inserting_after(at):
            graph.graph.call_module(tap_name(name), (at,))
    graph.graph.lint()
    graph.recompile()
    return fused


def _convolutions(graph: fx.GraphModule, layers: Collection[str]) -> list[tuple[str, fx.Node]]:
    """The named layers, each with the nodes that run it."""
    found: list[tuple[str, fx.Node]] = []
    for node in graph.graph.nodes:
        weight = node.args[1] if node.op == "call_function" and node.target in CONVOLUTIONS else None
        if isinstance(weight, fx.Node) and weight.op == "get_attr":
            found.append((str(weight.target).removesuffix(".weight"), node))
    return [(layer, node) for layer, node in found if layer in layers]


def _round_weights(graph: fx.GraphModule, node: fx.Node, name: str, quantizer: Rounding) -> None:
    """Let a convolution take rounded weights."""
    graph.add_submodule(name, quantizer)
    with graph.graph.inserting_before(node):
        node.update_arg(1, graph.graph.call_module(name, (node.args[1],)))


def _round_bias(
    graph: fx.GraphModule, node: fx.Node, name: str, quantizer: WeightQuantizer | CodebookQuantizer
) -> None:
    """Let a convolution take a rounded bias, where its input is rounded. Its weights are rounded already."""
    taken, rounded, bias = (*node.args[:2], node.args[2] if len(node.args) > 2 else None)
    if not isinstance(taken, fx.Node) or taken.op != "call_module" or not isinstance(bias, fx.Node):
        return
    assert isinstance(rounded, fx.Node)
    inputs = graph.get_submodule(str(taken.target))
    if isinstance(inputs, ActivationQuantizer):
        graph.add_submodule(name, BiasQuantizer(inputs, quantizer))
        with graph.graph.inserting_before(node):
            node.update_arg(2, graph.graph.call_module(name, (bias, rounded.args[0])))


def tap_name(name: str) -> str:
    """The module of a fused graph that gives what the module `name` gave."""
    return f"tap_{name.replace('.', '_')}"


def write_back(fused: FusedNetwork, net: nn.Module) -> tuple[dict[str, Range], Formats]:
    """Give `net` the trained weights, in place; the ranges by tensor key and the weight formats by layer."""
    state = fused.graph.state_dict()
    net.load_state_dict({name: state.get(name, tensor) for name, tensor in net.state_dict().items()})
    formats: dict[str, WeightFormat] = {}
    for layer, quantizer in fused.weights():
        weight = net.get_submodule(layer).weight
        assert isinstance(weight, Tensor)
        formats[layer] = quantizer.format(weight)
    return {key: quantizer.bounds() for key, quantizer in fused.activations()}, formats


def _weight_quantizer(
    layer: str, weight: Tensor, formats: Formats, ranges: Movement, learned_points: bool
) -> Rounding:
    form = formats.get(layer, EIGHT_BITS)
    if form.bucket is not None:
        return BucketQuantizer(layer, form.bits, form.bucket)
    if form.centroids is not None:
        return CodebookQuantizer(layer, form.bits, torch.tensor(form.centroids) / UNIT, learned_points)
    start = None if form.steps is None else torch.tensor(form.steps)
    return WeightQuantizer(layer, weight, form.bits, ranges == "learned" and form.bits < 8, start)


def _traced(net: nn.Module, example: Tensor) -> fx.GraphModule:
    """The operators of a network in eval mode, for any batch size; its modules keep their names."""
    inputs = (example.repeat(2, 1, 1, 1),)
    shapes = ({0: torch.export.Dim("batch", min=1, max=4096)},)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(net.eval(), inputs, dynamic_shapes=shapes)
            if any(node.target in EXPLICIT for node in program.graph.nodes):
                program = program.run_decompositions(get_decompositions(EXPLICIT))
            module = program.module(check_guards=False)
    except Exception as error:  # torch.export raises many classes of its own
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StageError(
            f"the network cannot be traced for training with quantization ({first}); avoid Python control flow on tensors"
        ) from error
    assert isinstance(module, fx.GraphModule)
    module.graph.set_codegen(CodeGen())  # outputs as a flat tuple, which copies without warnings
    return fx.GraphModule(module, module.graph)  # an exported module refuses train()


class Values(fx.Interpreter):
    """Runs a graph and keeps what every node gives."""

    def of(self, images: Tensor) -> list[tuple[fx.Node, np.ndarray]]:
        self.kept: list[tuple[fx.Node, np.ndarray]] = []
        with torch.no_grad():
            self.run(images)
        return self.kept

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and n.op in ("placeholder", "call_function", "call_module"):
            self.kept.append((n, value.numpy()))
        return value


def same(found: list[tuple[fx.Node, np.ndarray]], value: np.ndarray, operator: str | None) -> fx.Node | None:
    """The node that gives a value made by an ONNX operator (None: by none, it is an input).

    Of several with this value, such as a rectifier and what it takes where that is positive, the first of this operator; if
    there is none, the first.
    """
    alike = _with_value(found, value)
    return next((node for node in alike if _is_operator(node, operator)), alike[0] if alike else None)


def operators_of(model: onnx.ModelProto) -> dict[str, str]:
    """The operator that makes each tensor."""
    return {name: node.op_type for name, node in producers(model.graph).items()}


def _with_value(found: list[tuple[fx.Node, np.ndarray]], value: np.ndarray) -> list[fx.Node]:
    norm = float(np.linalg.norm(value))
    return [
        node
        for node, other in found
        if other.shape == value.shape and float(np.linalg.norm(other - value)) <= NEAR * norm + 1e-9
    ]


def _output_of(name: str, found: list[tuple[fx.Node, np.ndarray]], value: np.ndarray) -> fx.Node | None:
    """The node that gives the output of a module: of several with its value, the last that ran inside the module."""
    alike = _with_value(found, value)
    inside = [
        node for node in alike if name in (path for path, _ in node.meta.get("nn_module_stack", {}).values())
    ]
    return inside[-1] if inside else alike[0] if alike else None


def _is_operator(node: fx.Node, operator: str | None) -> bool:
    """Whether a node of torch is what ONNX calls `operator`."""
    if operator is None or node.op != "call_function":
        return operator is None and node.op == "placeholder"
    name = (
        str(node.target).removeprefix("aten.").partition(".")[0].replace("_", "")
    )  # aten.leaky_relu.default
    return name.removesuffix("2d") in TORCH_NAMES.get(operator, (operator.lower(),))


def _after(graph: fx.GraphModule, node: fx.Node, module: str, but: Collection[fx.Node | None]) -> fx.Node:
    """Call a module on a node's value; whoever took the value takes what the module gives, but for the nodes in `but`."""
    with graph.graph.inserting_after(node):
        made = graph.graph.call_module(module, (node,))
    node.replace_all_uses_with(made, delete_user_cb=lambda user: user is not made and user not in but)
    return made


def _features(net: nn.Module, names: list[str], images: Tensor) -> dict[str, Tensor]:
    with torch.no_grad(), tapped(net, names) as features:
        net(images)
        return dict(features)
