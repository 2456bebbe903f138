"""The network that quantization-aware training (QAT) sees: traced, batch norms folded, rounding where its int8 graph will.

The ONNX graph decides where quantizers stand, by the rule of `place_pairs`; tensors of the two graphs are recognized by
their values on one input. So what is trained is what is exported, whatever operators are called on either side.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import onnx
import torch
from torch import Tensor, fx, nn

from edgec.core.errors import StageError
from edgec.core.grid import Range, Ranges
from edgec.core.taps import tapped
from edgec.quantization.calibration import values_of
from edgec.quantization.placement import place_pairs, quantizable
from edgec.quantization.qat.fake_quantizers import (
    ActivationQuantizer,
    BiasQuantizer,
    Movement,
    WeightQuantizer,
)
from edgec.quantization.qat.matching import Values, operators_of, output_of, same
from edgec.quantization.qat.trace import traced
from edgec.quantization.tensor_keys import keys_of
from edgec.quantization.weights.buckets import BucketQuantizer
from edgec.quantization.weights.codebook import CodebookQuantizer
from edgec.quantization.weights.formats import EIGHT_BITS, UNIT, Formats, WeightFormat

Rounding = WeightQuantizer | CodebookQuantizer | BucketQuantizer
CONVOLUTIONS = (torch.ops.aten.conv2d.default, torch.ops.aten.convolution.default)


class RescaledTap(nn.Module):
    """Where distillers read a feature; channels that were equalized are scaled back."""

    def __init__(self, factors: Tensor | None) -> None:
        super().__init__()
        self.factors: Tensor | None
        self.register_buffer("factors", None if factors is None else factors.view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x if self.factors is None else x / self.factors


class QatNetwork(nn.Module):
    """A traced network with quantizers. What the original says of itself (heads, scale factor and the like), it says too."""

    def __init__(self, graph: fx.GraphModule, original: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.graph = graph
        self.unseen: list[str] = []  # tensors that only the int8 graph rounds
        with torch.no_grad():
            self.single = isinstance(original(example), Tensor)
        for name, fact in _facts_of(original).items():
            if not hasattr(self, name):
                setattr(self, name, fact)

    def forward(self, images: Tensor) -> Any:
        outputs = self.graph(images)
        return outputs[0] if self.single else list(outputs)

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


def _facts_of(net: nn.Module) -> dict[str, Any]:
    """The public attributes that a network has beside those of every module, but for modules, tensors and functions."""
    names = [name for name in dir(net) if not name.startswith("_") and not hasattr(nn.Module, name)]
    facts = {name: getattr(net, name) for name in names if name != "training"}
    return {n: f for n, f in facts.items() if not isinstance(f, nn.Module | Tensor) and not callable(f)}


def qat_network(
    net: nn.Module, model: onnx.ModelProto, bounds: Ranges, float_layers: Collection[str], example: Tensor, *,
    formats: Formats, activation_bits: int = 8, ranges: Movement = "learned", learn_centroids: bool = True,
    taps: Mapping[str, Tensor | None] | None = None,
) -> QatNetwork:  # fmt: skip
    """A network, its batch norms folded, with quantizers where the int8 graph of `model` has its pairs.

    `model` is the float graph of `net`, `bounds` its calibrated ranges. `taps`: modules of `net` that can be read as
    `graph.<tap_name>`, with factors of their channels. `learn_centroids`: whether those of codebooks train.
    `example` [1, c, h, w]. Raises StageError when the network cannot be traced.
    """
    graph = traced(net, example)
    probe = torch.rand(example.shape, generator=torch.Generator().manual_seed(0))
    values = Values(graph).of(probe)
    qat = QatNetwork(graph, net, example)
    placement, keys = place_pairs(model, float_layers), keys_of(model)
    operators = operators_of(model)
    readers = [output for outputs in placement.unrounded.values() for output in outputs]
    seen = values_of(model, list(dict.fromkeys((*placement.source, *readers))), probe.numpy())
    quantizers: dict[str, str] = {}  # tensor key -> module
    rounded: dict[fx.Node, fx.Node] = {}  # a node -> its rounded value
    for tensor, source in placement.source.items():
        node, key = same(values, seen[tensor], operators.get(tensor)), keys.get(source, source)
        if node is None:
            qat.unseen.append(keys.get(tensor, tensor))
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
        quantizer = _weight_quantizer(layer, weight, formats, ranges, learn_centroids)
        _round_weights(graph, node, f"weights_{index}", quantizer)
        if layer not in float_layers and not isinstance(quantizer, BucketQuantizer):
            _round_bias(graph, node, f"bias_{index}", quantizer)
    for name, value in _features(net, list(taps or {}), probe).items():
        node = output_of(name, values, value.numpy())
        if node is None:
            raise StageError(
                f"tap {name!r}: its output is not a tensor of the traced network; tap another module"
            )
        graph.add_submodule(tap_name(name), RescaledTap((taps or {})[name]))
        at = rounded.get(node, node)
        with graph.graph.inserting_after(at):
            graph.graph.call_module(tap_name(name), (at,))
    graph.graph.lint()
    graph.recompile()
    return qat


def _convolutions(graph: fx.GraphModule, layers: Collection[str]) -> list[tuple[str, fx.Node]]:
    """The named layers, each with the nodes that run it."""
    convolutions: list[tuple[str, fx.Node]] = []
    for node in graph.graph.nodes:
        weight = node.args[1] if node.op == "call_function" and node.target in CONVOLUTIONS else None
        if isinstance(weight, fx.Node) and weight.op == "get_attr":
            convolutions.append((str(weight.target).removesuffix(".weight"), node))
    return [(layer, node) for layer, node in convolutions if layer in layers]


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
    """The module of a QAT network's graph that gives what the module `name` gave."""
    return f"tap_{name.replace('.', '_')}"


def write_back(qat: QatNetwork, net: nn.Module) -> tuple[dict[str, Range], Formats]:
    """Give `net` the trained weights, in place; the ranges by tensor key and the weight formats by layer."""
    state = qat.graph.state_dict()
    net.load_state_dict({name: state.get(name, tensor) for name, tensor in net.state_dict().items()})
    formats: dict[str, WeightFormat] = {}
    for layer, quantizer in qat.weights():
        weight = net.get_submodule(layer).weight
        assert isinstance(weight, Tensor)
        formats[layer] = quantizer.format(weight)
    return {key: quantizer.bounds() for key, quantizer in qat.activations()}, formats


def _weight_quantizer(
    layer: str, weight: Tensor, formats: Formats, ranges: Movement, learn_centroids: bool
) -> Rounding:
    form = formats.get(layer, EIGHT_BITS)
    if form.bucket is not None:
        return BucketQuantizer(layer, form.bits, form.bucket)
    if form.centroids is not None:
        return CodebookQuantizer(layer, form.bits, torch.tensor(form.centroids) / UNIT, learn_centroids)
    start = None if form.steps is None else torch.tensor(form.steps)
    return WeightQuantizer(layer, weight, form.bits, ranges == "learned" and form.bits < 8, start)


def _after(graph: fx.GraphModule, node: fx.Node, module: str, but: Collection[fx.Node | None]) -> fx.Node:
    """Call a module on a node's value; whoever took the value takes what the module gives, but for the nodes in `but`."""
    with graph.graph.inserting_after(node):
        inserted = graph.graph.call_module(module, (node,))
    node.replace_all_uses_with(inserted, delete_user_cb=lambda user: user is not inserted and user not in but)
    return inserted


def _features(net: nn.Module, names: list[str], images: Tensor) -> dict[str, Tensor]:
    with torch.no_grad(), tapped(net, names) as features:
        net(images)
        return dict(features)
