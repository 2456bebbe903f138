"""Whole-image statistics for tiles: what global attention pools over the image, gathered tile by tile.

Attention that pools over the whole image gives each tile other gates than the image would. In the exact mode the k-th
statistic is gathered over all tiles with the ones before it already known, each pixel once; then the tiles are run with
the whole image's statistics. In a graph, a statistic is the mean of a map over all places (ReduceMean over height and
width, GlobalAveragePool), or its variance (the mean of the squared deviation). `others` names the nodes that look at the
whole image in another way, which moments cannot give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from edgec.onnx.graph import constants, producers, value_infos
from edgec.onnx.rewrite import cut_to
from edgec.onnx.session import OnnxSession
from edgec.tiles.crops import Finish, Input, Plan, Tile, cut, tiled

Known = Mapping[str, np.ndarray]  # statistic -> its value over the whole image
# Operators that look at all places of a map and give no mean.
WHOLE_IMAGE = frozenset({"GlobalMaxPool", "GlobalLpPool", "InstanceNormalization", "GroupNormalization"})


class Staged(Protocol):
    """A network that can be run up to a statistic, and with statistics given."""

    maps: list[str]  # what statistics are taken of, in the order in which they depend on each other

    def map(self, name: str, part: np.ndarray, known: Known) -> np.ndarray:
        """A map [1, c, h', w'] of a tile [1, 3, h, w]."""
        ...

    def gather(self, name: str, mean: np.ndarray, variance: np.ndarray) -> Known:
        """The statistics that a map's moments [1, c, 1, 1] over the whole image make known."""
        ...

    def run(self, part: np.ndarray, known: Known) -> np.ndarray: ...


def whole_image(network: Staged, x: Input, tiles: Plan) -> Known:
    """The statistics of the whole input [3, h, w], gathered tile by tile."""
    known: dict[str, np.ndarray] = {}
    for name in network.maps:
        count, total, squares = 0, 0.0, 0.0
        for tile, part in cut(x, tiles):
            own = _own(network.map(name, part, known), tile, tiles)
            count += own.shape[1] * own.shape[2]
            for row in own.swapaxes(0, 1):  # a copy of all in double precision would be larger than the map
                row = row.astype(np.float64)
                total = total + row.sum(1)
                squares = squares + np.square(row).sum(1)
        mean = np.asarray(total) / count
        variance = np.maximum(np.asarray(squares) / count - mean**2, 0)
        shaped = [v.reshape(1, -1, 1, 1).astype(np.float32) for v in (mean, variance)]
        known |= network.gather(name, *shaped)
    return known


def exact(
    network: Staged, x: Input, tiles: Plan, factor: int, finish: Finish = lambda made: made
) -> np.ndarray:
    """The output [3, factor * h, factor * w] of an input [3, h, w] in tiles that all have the whole image's statistics."""
    known = whole_image(network, x, tiles)
    return tiled(lambda part: network.run(part, known), x, tiles, factor, finish)


def _own(found: np.ndarray, tile: Tile, tiles: Plan) -> np.ndarray:
    """The part of a tile's map that no other tile answers for, [c, h, w]; the map may be smaller than the tile."""
    parts: list[slice] = []
    for span, size, cells in zip(
        (tile.rows, tile.columns), (tiles.height, tiles.width), found.shape[2:], strict=True
    ):
        shrink = size / cells
        parts.append(slice(*(round((edge - span.start) / shrink) for edge in (span.first, span.last))))
    return found[0, :, parts[0], parts[1]]


# --- graphs


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
    found: list[Statistic] = []
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
            found.append(Statistic("variance", centred.input[0], output, element, _is_flat(node)))
        else:
            found.append(Statistic("mean", of, output, element, _is_flat(node)))
            means[output] = of
    return found


def others(model: onnx.ModelProto) -> list[str]:
    """The operators over height or width that are no statistic: a maximum over the image, for one."""
    fixed = constants(model)
    ranks = {name: len(value.type.tensor_type.shape.dim) for name, value in value_infos(model).items()}
    found: list[str] = []
    for node in model.graph.node:
        if node.op_type in WHOLE_IMAGE:
            found.append(node.op_type)
        elif node.op_type.startswith("Reduce") and ranks.get(node.input[0]) == 4:
            axes = _axes(node, fixed)
            if (not axes or axes & {2, 3}) and not _pools(node, fixed):
                found.append(node.op_type)
    return sorted(set(found))


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


# --- modules


class _Enough(Exception):
    """The map that was asked for has been seen."""


class StagedModule:
    """A torch module whose global statistics are modules with `of_moments(mean, variance)` (see `models/imdn.py`)."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net.eval()
        self.pools: dict[str, Any] = {n: m for n, m in net.named_modules() if hasattr(m, "of_moments")}
        self.maps = list(self.pools)  # in the order of registration, which is that of execution

    def map(self, name: str, part: np.ndarray, known: Known) -> np.ndarray:
        seen: list[np.ndarray] = []

        def look(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            seen.append(inputs[0].cpu().numpy())
            raise _Enough

        handle = self.pools[name].register_forward_pre_hook(look)
        try:
            self.run(part, known)
        except _Enough:
            pass
        finally:
            handle.remove()
        return seen[0]

    def gather(self, name: str, mean: np.ndarray, variance: np.ndarray) -> Known:
        return {name: self.pools[name].of_moments(torch.from_numpy(mean), torch.from_numpy(variance)).numpy()}

    @torch.inference_mode()
    def run(self, part: np.ndarray, known: Known) -> np.ndarray:
        device = next(self.net.parameters()).device
        handles = [
            self.pools[name].register_forward_hook(_giving(torch.from_numpy(value).to(device)))
            for name, value in known.items()
        ]
        try:
            return self.net(torch.from_numpy(part).to(device)).float().cpu().numpy()
        finally:
            for handle in handles:
                handle.remove()


def _giving(value: torch.Tensor) -> Any:
    """A hook that replaces a module's output."""
    return lambda module, inputs, output: value
