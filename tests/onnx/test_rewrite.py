"""Changing graphs: what is not touched stays, to the byte; what is computed stays."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgec.core.errors import StageError
from edgec.onnx.graph import clone, initializers, strip, validate
from edgec.onnx.rewrite import (
    add_initializer,
    cut_to,
    drop_unused,
    new_node,
    opened,
    replace_initializer,
    replace_uses,
    saved,
    sort_nodes,
    take_over_output,
    values_of,
)
from edgec.onnx.session import OnnxSession

X = np.random.default_rng(0).random((1, 2, 4, 4), dtype=np.float32)


def graph_of(links: list[tuple[int, int]], stripped: bool = True) -> onnx.ModelProto:
    """A graph of sums: node i adds the tensors of the two numbers, where 0 is the input and 1 a stored tensor."""
    names = ["images", "w", *(f"t{i}" for i in range(len(links)))]
    nodes = [
        helper.make_node("Add", [names[a], names[b]], [names[i + 2]], f"add{i}")
        for i, (a, b) in enumerate(links)
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("images", TensorProto.FLOAT, [1, 2, 4, 4])], [value(names[-1], TensorProto.FLOAT, [1, 2, 4, 4])],
        [numpy_helper.from_array(np.full((1, 2, 4, 4), 0.5, np.float32), "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if stripped:
        strip(model)
    return model


@st.composite
def sums(draw: st.DrawFn) -> onnx.ModelProto:
    count = draw(st.integers(1, 8))
    links = [(draw(st.integers(0, i + 1)), draw(st.integers(0, i + 1))) for i in range(count)]
    return graph_of(links, draw(st.booleans()))


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    session = OnnxSession(model.SerializeToString(), optimize=False)
    return session.run({name: X for name in session.inputs})


def as_bytes(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


@settings(max_examples=50, deadline=None)
@given(sums())
def test_a_graph_that_is_not_changed_keeps_its_bytes(model: onnx.ModelProto) -> None:
    assert as_bytes(saved(opened(model))) == as_bytes(model)


@settings(max_examples=30, deadline=None)
@given(sums(), st.randoms(use_true_random=False))
def test_sorting_puts_nodes_behind_what_they_take(model: onnx.ModelProto, draw: random.Random) -> None:
    wanted = run(model)
    mixed = clone(model)
    nodes = list(mixed.graph.node)
    draw.shuffle(nodes)
    del mixed.graph.node[:]
    mixed.graph.node.extend(nodes)
    made = opened(mixed)
    sort_nodes(made.graph)
    ordered = saved(made)
    validate(ordered)
    assert all(np.array_equal(a, b) for a, b in zip(run(ordered), wanted, strict=True))
    again = opened(ordered)
    sort_nodes(again.graph)
    assert as_bytes(saved(again)) == as_bytes(ordered)  # what is sorted stays


@settings(max_examples=30, deadline=None)
@given(sums(), st.data())
def test_a_cut_graph_computes_the_tensor_it_is_cut_to(model: onnx.ModelProto, data: st.DataObject) -> None:
    node = data.draw(st.sampled_from(list(model.graph.node)))
    output = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [1, 2, 4, 4])
    whole = clone(model)
    del whole.graph.output[:]
    whole.graph.output.append(output)
    cut = cut_to(model, model.graph.input, [output])
    assert len(cut.graph.node) <= list(model.graph.node).index(node) + 1
    assert np.array_equal(run(cut)[0], run(whole)[0])


def test_an_inner_tensor_may_become_an_input() -> None:
    model = graph_of([(0, 1), (2, 2)])
    given = helper.make_tensor_value_info("t0", TensorProto.FLOAT, [1, 2, 4, 4])
    cut = cut_to(model, [*model.graph.input, given], model.graph.output)
    assert [i.name for i in cut.graph.input] == ["images", "t0"] and not cut.graph.initializer
    assert np.array_equal(run(cut)[0], X + X)


def test_a_cycle_is_refused() -> None:
    model = graph_of([(0, 1), (2, 2)])
    model.graph.node[0].input[0] = "t1"
    with pytest.raises(StageError, match="cycle"):
        sort_nodes(opened(model).graph)


def test_changes_leave_the_graph_that_was_opened_alone() -> None:
    model = graph_of([(0, 1), (2, 2)])
    before = as_bytes(model)
    made = opened(model)
    values = values_of(made.graph)
    replace_initializer(values["w"], np.zeros((1, 2, 4, 4), np.float32))
    values["w"].name = "other"
    changed = saved(made)
    assert as_bytes(model) == before
    assert np.array_equal(run(changed)[0], 2 * X)


def test_uses_are_replaced_but_for_some() -> None:
    made = opened(graph_of([(0, 1), (2, 2), (3, 2)]))
    graph, values = made.graph, values_of(made.graph)
    negated = new_node("Neg", [values["t0"]], "minus", "neg")
    last = values["t2"].producer()
    assert last is not None
    replace_uses(values["t0"], negated.outputs[0], but=(negated, last))
    graph.append(negated)
    sort_nodes(graph)
    assert np.allclose(run(saved(made))[0], -2 * (X + 0.5) + (X + 0.5))


def test_another_tensor_becomes_the_output_and_unread_tensors_go() -> None:
    made = opened(graph_of([(0, 1), (0, 0)]))
    graph, values = made.graph, values_of(made.graph)
    three = add_initializer(graph, "three", np.full((1, 2, 4, 4), 3, np.float32))
    times = new_node("Mul", [values["t1"], three], "product", "times")
    graph.append(times)
    take_over_output(graph, values["t1"], times.outputs[0])
    graph.remove([node for node in graph if node.name == "add0"], safe=True)
    drop_unused(graph)
    changed = saved(made)
    validate(changed)
    assert set(initializers(changed)) == {"three"}
    assert np.allclose(run(changed)[0], 6 * X)
