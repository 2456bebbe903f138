"""Changing an ONNX graph with onnx_ir, where tensors know the node that makes them and those that take them.

`opened` gives a copy to change, `saved` the graph of it. A graph that was not changed is saved with the same bytes: the
size of an artifact is one of its figures.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from edgec.core.errors import StageError
from edgec.onnx.graph import clone

TEXTS = ("name", "doc_string", "producer_version")  # an empty one may be written or left out
_NOTE = "edgec.empty"


def opened(model: onnx.ModelProto) -> ir.Model:
    """A copy of a graph, linked; `model` stays as it is."""
    copy = ir.from_proto(clone(model))  # its tensors are those of what it is made from
    for item, proto in _pairs(copy, model):
        written = {text: proto.HasField(text) for text in TEXTS if getattr(proto, text, None) == ""}
        if written:
            item.meta[_NOTE] = written
    return copy


def saved(made: ir.Model) -> onnx.ModelProto:
    """The graph, without the shapes of inner tensors, which can be inferred."""
    model = ir.to_proto(made)
    del model.graph.value_info[:]
    for item, proto in _pairs(made, model):
        for text, written in item.meta.get(_NOTE, {}).items():
            if written:
                setattr(proto, text, "")
            else:
                proto.ClearField(text)
    return model


def _pairs(made: ir.Model, model: onnx.ModelProto) -> Iterator[tuple[Any, Any]]:
    """The parts of a graph in both forms."""
    graph, proto = made.graph, model.graph
    yield made, model
    yield graph, proto
    yield from zip(graph, proto.node, strict=True)
    yield from zip(graph.inputs, proto.input, strict=True)
    yield from zip(graph.outputs, proto.output, strict=True)
    tensors = (value.const_value for value in graph.initializers.values())
    yield from zip(tensors, proto.initializer, strict=True)


def values_of(graph: ir.Graph) -> dict[str, ir.Value]:
    """The tensors by name."""
    return ir.convenience.create_value_mapping(graph, include_subgraphs=False)


def name_of(value: ir.Value | None) -> str:
    """A tensor's name; "" for an input that is left out."""
    return "" if value is None or value.name is None else value.name


def array_of(value: ir.Value | None) -> np.ndarray | None:
    """The values of a stored tensor; None for one that is computed, or left out."""
    return None if value is None or value.const_value is None else value.const_value.numpy()


def add_initializer(graph: ir.Graph, name: str, array: np.ndarray | onnx.TensorProto) -> ir.Value:
    """A new stored tensor, the last of the graph's."""
    proto = array if isinstance(array, onnx.TensorProto) else numpy_helper.from_array(array, name)
    value = ir.Value(name=name, const_value=ir.from_proto(proto))
    graph.register_initializer(value)
    return value


def replace_initializer(value: ir.Value, array: np.ndarray) -> None:
    """Other numbers for a stored tensor."""
    value.const_value = ir.from_proto(numpy_helper.from_array(array, name_of(value)))


def new_node(
    operator: str, inputs: Sequence[ir.Value], output: str, name: str, attributes: Mapping[str, int] | None = None
) -> ir.Node:  # fmt: skip
    """A node with one output, which belongs to no graph yet."""
    return ir.node(operator, inputs, attributes, outputs=[ir.Value(name=output)], name=name)


def take_over_output(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """Let `new` be the graph's output in place of `old`, with its type; names stay as they are."""
    for index, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[index] = new
    new.type, new.shape = old.type, old.shape
    cast(Any, new.meta).update(old.meta)


def replace_uses(old: ir.Value, new: ir.Value, but: Collection[ir.Node] = ()) -> None:
    """Let all nodes but some take `new` where they took `old`. The graph's outputs stay."""
    for user, index in tuple(old.uses()):
        if user not in but:
            user.replace_input_with(index, new)


def drop_unused(graph: ir.Graph) -> None:
    """Leave out the stored tensors that no node takes."""
    for name, value in tuple(graph.initializers.items()):
        if not value.uses():
            del graph.initializers[name]


def sort_nodes(graph: ir.Graph) -> None:
    """Put the nodes into topological order: round after round, those whose inputs are all there, in the order that they had.

    The order is part of an artifact's bytes; `ir.Graph.sort` gives another. Raises StageError for a cycle.
    """
    waiting, ordered = list(graph), list[ir.Node]()
    done: set[ir.Node] = set()
    while waiting:
        later: list[ir.Node] = []
        for node in waiting:
            makers = (value.producer() for value in node.inputs if value is not None)
            if all(maker is None or maker in done for maker in makers):
                ordered.append(node)
                done.add(node)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise StageError("the graph has a cycle; this is a bug, please report it")
        waiting = later
    graph.remove(ordered)
    graph.extend(ordered)


def cut_to(
    model: onnx.ModelProto, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    """The part of a graph that computes `outputs` from `inputs`, which may be any of its tensors. Inputs that are not needed
    are left out, but for the first.
    """
    copy = opened(model)
    graph = ir.convenience.extract(copy.graph, [i.name for i in inputs], [o.name for o in outputs])
    cut = ir.to_proto(ir.Model(graph, ir_version=copy.ir_version))
    del cut.graph.value_info[:], cut.graph.input[:], cut.graph.output[:]
    taken = {name for node in cut.graph.node for name in node.input}
    cut.graph.input.extend(i for n, i in enumerate(inputs) if n == 0 or i.name in taken)
    cut.graph.output.extend(outputs)
    return cut
