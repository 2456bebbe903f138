"""An ONNX graph cut at what it pools over the whole image.

A statistic is the mean of a map over all places (ReduceMean over height and width, GlobalAveragePool), or its variance
(the mean of the squared deviation). `other_poolings` names the operators that look at the whole image in another way,
which moments cannot give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgec.onnx.graph import constants, producers, value_infos
from edgec.onnx.rewrite import cut_to
from edgec.onnx.session import OnnxSession
from edgec.tiles.statistics import Known

# Operators that look at all places of a map and give no mean.
WHOLE_IMAGE = frozenset({"GlobalMaxPool", "GlobalLpPool", "InstanceNormalization", "GroupNormalization"})


@dataclass(frozen=True)
class Statistic:
    """A node of a graph that looks at the whole image."""

    kind: Literal["mean", "variance"]
    of: str  # tensor [n, c, h, w]
    node: str  # its output, [n, c, 1, 1], or [n, c] when it is flat
    element: int  # type of the tensors
    flat: bool = False


def statistics_of(model: onnx.ModelProto) -> list[Statistic]:
    """The statistics of a graph, in the order of the nodes."""
    made_by, fixed = producers(model.graph), constants(model)
    elements = {name: value.type.tensor_type.elem_type for name, value in value_infos(model).items()}
    statistics: list[Statistic] = []
    means: dict[str, str] = {}  # mean -> what it is taken of
    for node in model.graph.node:
        if not _pools(node, fixed):
            continue
        of, output = node.input[0], node.output[0]
        square = made_by.get(of)
        centred = made_by.get(square.input[0]) if square is not None and _is_square(square, fixed) else None
        element = elements.get(of, TensorProto.FLOAT)
        if (
            centred is not None
            and centred.op_type == "Sub"
            and means.get(centred.input[1]) == centred.input[0]
        ):
            statistics.append(Statistic("variance", centred.input[0], output, element, _is_flat(node)))
        else:
            statistics.append(Statistic("mean", of, output, element, _is_flat(node)))
            means[output] = of
    return statistics


def other_poolings(model: onnx.ModelProto) -> list[str]:
    """The operators over height or width that are no statistic: a maximum over the image, for one."""
    fixed = constants(model)
    ranks = {name: len(value.type.tensor_type.shape.dim) for name, value in value_infos(model).items()}
    operators: list[str] = []
    for node in model.graph.node:
        if node.op_type in WHOLE_IMAGE:
            operators.append(node.op_type)
        elif node.op_type.startswith("Reduce") and ranks.get(node.input[0]) == 4:
            axes = _axes(node, fixed)
            if (not axes or axes & {2, 3}) and not _pools(node, fixed):
                operators.append(node.op_type)
    return sorted(set(operators))


def _pools(node: onnx.NodeProto, fixed: Mapping[str, np.ndarray]) -> bool:
    """Whether a node averages over height and width."""
    return node.op_type == "GlobalAveragePool" or (
        node.op_type == "ReduceMean" and _axes(node, fixed) == {2, 3}
    )


def _axes(node: onnx.NodeProto, fixed: Mapping[str, np.ndarray]) -> set[int]:
    """The axes of an image that a node reduces; none said: all of them."""
    named = fixed.get(node.input[1]) if len(node.input) > 1 else None
    return set() if named is None else {int(axis) % 4 for axis in named.reshape(-1)}


def _is_flat(node: onnx.NodeProto) -> bool:
    return node.op_type == "ReduceMean" and any(a.name == "keepdims" and a.i == 0 for a in node.attribute)


def _is_square(node: onnx.NodeProto, fixed: Mapping[str, np.ndarray]) -> bool:
    if node.op_type == "Mul":
        return node.input[0] == node.input[1]
    return node.op_type == "Pow" and node.input[1] in fixed and bool((fixed[node.input[1]] == 2).all())


class StagedGraph:
    """An ONNX graph, cut at its statistics; one session for each map, and one for the rest."""

    def __init__(self, model: onnx.ModelProto, threads: int = 1) -> None:
        self.statistics = statistics_of(model)
        self.maps = list(dict.fromkeys(s.of for s in self.statistics))
        self.threads = threads
        self._open = _with_inputs(model, self.statistics)
        self._session: tuple[str | None, OnnxSession] | None = None

    def _until(self, name: str | None) -> OnnxSession:
        """The session that gives a map, or the network's output; the one before is closed."""
        if self._session is None or self._session[0] != name:
            self._session = None
            model = self._open if name is None else _up_to(self._open, name, self.statistics)
            self._session = (name, OnnxSession(model.SerializeToString(), self.threads, small_memory=True))
        return self._session[1]

    def _feeds(self, session: OnnxSession, part: np.ndarray, known: Known) -> dict[str, np.ndarray]:
        return {n: known[n] for n in session.inputs if n in known} | {"images": part}

    def map(self, name: str, part: np.ndarray, known: Known) -> np.ndarray:
        session = self._until(name)
        return session.run(self._feeds(session, part, known))[0]

    def gather(self, name: str, mean: np.ndarray, variance: np.ndarray) -> Known:
        values = {"mean": mean, "variance": variance}
        return {
            s.node: values[s.kind]
            .reshape(mean.shape[: 2 if s.flat else 4])
            .astype(helper.tensor_dtype_to_np_dtype(s.element))
            for s in self.statistics
            if s.of == name
        }

    def run(self, part: np.ndarray, known: Known) -> np.ndarray:
        session = self._until(None)
        return session.run(self._feeds(session, part, known))[0]


def _with_inputs(model: onnx.ModelProto, statistics: Sequence[Statistic]) -> onnx.ModelProto:
    """A copy in which the statistics are inputs, and what computed them is gone."""
    given = [
        helper.make_tensor_value_info(s.node, s.element, [1, None] if s.flat else [1, None, 1, 1])
        for s in statistics
    ]
    return cut_to(model, [*model.graph.input, *given], model.graph.output)


def _up_to(model: onnx.ModelProto, tensor: str, statistics: Sequence[Statistic]) -> onnx.ModelProto:
    """The part of a graph that computes one tensor."""
    element = next(s.element for s in statistics if s.of == tensor)
    return cut_to(model, model.graph.input, [helper.make_tensor_value_info(tensor, element, None)])
