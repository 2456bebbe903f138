"""Cross-layer equalization of activations: every channel of a tensor is scaled to fill the range that int8 gives them all.

Where the operators between convolutions are positively homogeneous (f(s x) = s f(x) for s > 0: leaky ReLU, pooling,
sums, concatenation, mean and standard deviation), a channel may be multiplied by any s > 0 behind the convolutions
that make it and divided by it in those that read it: the network computes the same. Nagel et al. (2019,
arXiv 1906.04721) equalize weights so; here it is the activations, for weights have a scale per channel anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper

from edgec.core.errors import StageError
from edgec.onnx.graph import convolutions, initializers
from edgec.onnx.rewrite import array_of, opened, replace_initializer, saved, values_of

LARGEST = 256.0  # factor of a channel; one that is nearly dead would get any
SAME = frozenset(
    {"LeakyRelu", "Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "Identity"}
)
Factors = Mapping[str, Mapping[str, Sequence[float]]]  # layer -> "out" and "in", a factor for each channel


@dataclass
class _Channels:
    """Channels that must be scaled alike, as a forest of sets; channel 0 stands for those that must not be scaled."""

    parent: list[int] = field(default_factory=lambda: [0])

    def new(self, count: int) -> list[int]:
        start = len(self.parent)
        self.parent += range(start, start + count)
        return list(range(start, start + count))

    def root(self, channel: int) -> int:
        while self.parent[channel] != channel:
            self.parent[channel] = self.parent[self.parent[channel]]
            channel = self.parent[channel]
        return channel

    def join(self, a: int, b: int) -> None:
        a, b = sorted((self.root(a), self.root(b)))
        self.parent[b] = a

    def fix(self, channels: Sequence[int]) -> None:
        for channel in channels:
            self.join(0, channel)


@dataclass(frozen=True)
class _Tensor:
    """A tensor's channels, each to the power of `degree`: a product of a channel with itself has degree 2."""

    channels: tuple[int, ...]
    degree: float = 1.0


def tied_channels(model: onnx.ModelProto) -> tuple[dict[str, list[int]], dict[str, dict[str, list[int]]]]:
    """Which channels are scaled alike: by tensor, and by layer for what it puts "out" and takes "in"; 0: fixed."""
    sets = _Channels()
    layers = {node.output[0]: layer for layer, node in convolutions(model).items()}
    weights = initializers(model)
    tensors: dict[str, _Tensor] = {}
    ends: dict[str, dict[str, list[int]]] = {}
    for node in model.graph.node:
        data = [tensors[name] for name in node.input if name in tensors]
        made = _follow(node, data, sets, weights, layers)
        if made is None:
            for tensor in data:
                sets.fix(tensor.channels)
            continue
        tensors[node.output[0]] = made
        if node.output[0] in layers:
            taken = list(data[0].channels) if data else []
            ends[layers[node.output[0]]] = {"out": list(made.channels), "in": taken}
    for output in model.graph.output:
        if output.name in tensors:
            sets.fix(tensors[output.name].channels)
    named = {n: [sets.root(c) for c in t.channels] for n, t in tensors.items() if t.degree == 1}
    return named, {
        layer: {end: [sets.root(c) for c in channels] for end, channels in both.items()}
        for layer, both in ends.items()
    }


def _follow(
    node: onnx.NodeProto,
    data: Sequence[_Tensor],
    sets: _Channels,
    weights: Mapping[str, np.ndarray],
    layers: Mapping[str, str],
) -> _Tensor | None:
    """The channels that a node puts out; None where a factor does not pass through it."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    constant = [name for name in node.input if name in weights]
    match node.op_type:
        case "Conv" if node.output[0] in layers and attributes.get("group", 1) == 1:
            if any(tensor.degree != 1 for tensor in data):
                return None
            return _Tensor(tuple(sets.new(len(weights[node.input[1]]))))
        case kind if kind in SAME and len(data) == 1:
            return data[0]
        case "Resize" if len(data) == 1 and attributes.get("mode", b"nearest") in (b"nearest", b"linear"):
            return data[0]
        case "Sqrt" if data:
            return _Tensor(data[0].channels, data[0].degree / 2)
        case "Mul" if len(data) == 2 and node.input[0] == node.input[1]:
            return _Tensor(data[0].channels, data[0].degree * 2)
        case "Mul" if len(data) == 1 and len(node.input) == 2 and not constant:
            return data[0]  # the other factor is one that nothing scales, such as a gate
        case "Add" | "Sub" if len(data) == 2:
            a, b = data
            if a.degree != b.degree or len(a.channels) != len(b.channels):
                return None
            for x, y in zip(a.channels, b.channels, strict=True):
                sets.join(x, y)
            return a
        case "Concat" if attributes.get("axis") == 1 and len(data) == len(node.input):
            if len({tensor.degree for tensor in data}) > 1:
                return None
            return _Tensor(tuple(c for tensor in data for c in tensor.channels), data[0].degree)
        case _:
            return None


def factors(model: onnx.ModelProto, largest: Mapping[str, np.ndarray]) -> dict[str, dict[str, list[float]]]:
    """The factors of all layers' channels. `largest`: by tensor, the largest magnitude of each channel on images.

    A channel's factor is what it lacks to the largest channel of its tensor, in the tensor where it lacks least: no
    tensor's range grows.
    """
    tensors, ends = tied_channels(model)
    share: dict[int, float] = {}
    for name, reached in largest.items():
        if name in tensors and len(tensors[name]) == len(reached) and reached.max() > 0:
            for channel, value in zip(tensors[name], reached / reached.max(), strict=True):
                share[channel] = max(share.get(channel, 0.0), float(value))
    factor = {c: min(1 / max(v, 1e-12), LARGEST) for c, v in share.items() if c != 0}
    return {
        layer: {end: [factor.get(c, 1.0) for c in channels] for end, channels in both.items()}
        for layer, both in ends.items()
    }


def equalized(model: onnx.ModelProto, by_layer: Factors) -> onnx.ModelProto:
    """The graph with its convolutions' channels scaled by factors; it computes what it did.

    Raises StageError when a layer has other channels than the factors were made for.
    """
    copy = opened(model)
    values = values_of(copy.graph)
    for layer, node in convolutions(model).items():
        if layer not in by_layer:
            continue
        weight = array_of(values[node.input[1]])
        assert weight is not None
        out, taken = (np.asarray(by_layer[layer][end], np.float32) for end in ("out", "in"))
        if (len(out), len(taken) or weight.shape[1]) != weight.shape[:2]:
            raise StageError(
                f"int8: {layer} has {weight.shape[1]} channels in and {weight.shape[0]} out, it was calibrated with "
                f"{len(taken)} and {len(out)}; the graph has changed since, run the quantize stage again"
            )
        if len(taken):
            weight = weight / taken[:, None, None]
        weight = weight * out[:, None, None, None]
        replace_initializer(values[node.input[1]], weight.astype(np.float32))
        bias = array_of(values[node.input[2]]) if len(node.input) > 2 else None
        if bias is not None:
            replace_initializer(values[node.input[2]], (bias * out).astype(np.float32))
    return saved(copy)
