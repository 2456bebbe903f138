"""Where the time of one artifact goes that another does not spend."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import onnx

from edgec.onnx.graph import layer_of, users

LEAST_EXTRA = 0.005  # share of the other artifact's total; less is noise
TOP = 10
# what kernels compute with a convolution
ACTIVATIONS = frozenset(
    {"Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Mish"}
)


def dearer(slow: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Operator types, then layers that both have, that cost more in `slow` than in `other`, dearest first.

    Both are what `probe` answers for "operators". Rows: {"name" ("" for a type's total), "type", "ms",
    "against_ms", "extra_ms"}.
    """
    least = LEAST_EXTRA * max(float(other["total_ms"]), 1e-9)
    types = [
        _row("", name, float(ms), float(other["types"].get(name, 0.0))) for name, ms in slow["types"].items()
    ]
    counterpart = _layers(other)
    layers = [
        _row(str(row["name"]), str(row["type"]), float(row["ms"]), float(counterpart[name]["ms"]))
        for name, row in _layers(slow).items()
        if name in counterpart
    ]
    return _top(types, least) + _top(layers, least)


def _layers(answer: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Operators by layer name; those that the optimiser made, of which several share a name, are left out."""
    names = Counter(layer_name(str(row["name"])) for row in answer["operators"])
    rows = {layer_name(str(row["name"])): row for row in answer["operators"]}
    return {name: row for name, row in rows.items() if names[name] == 1 and name != row["type"]}


def layer_name(name: str) -> str:
    """A node's name without what optimisers, quantisers and other runtimes add to it, so that layers can be compared."""
    name = re.sub(r"(_nchwc|_quant|_fp16|_token_\d+|_fused|_kernel|/fused|/WithoutBiases)+$", "", name)
    return re.sub(r"^(InsertedPrecisionFreeCast_|node_)+", "", name)


def modules_of(model: onnx.ModelProto, plain: onnx.ModelProto | None = None) -> dict[str, str]:
    """The module of each convolution, by the names (see `layer_name`) that runtimes know its operator by: its own, its
    activation's, and those of their outputs. `plain` is the float graph, where `model` has shortened the names of weights.
    """
    takers = users(model.graph)
    named = {n.name: layer_of(n) for n in (plain or model).graph.node if n.op_type == "Conv" and n.name}
    found: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        module = named.get(node.name, layer_of(node))
        following = [n for n in takers.get(node.output[0], []) if n.op_type in ACTIVATIONS]
        for each in (node, *following):
            found |= {layer_name(name): module for name in (each.name, *each.output) if name}
    return found


def _row(name: str, kind: str, ms: float, against_ms: float) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "ms": round(ms, 6),
        "against_ms": round(against_ms, 6),
        "extra_ms": round(ms - against_ms, 6),
    }


def _top(rows: list[dict[str, Any]], least: float) -> list[dict[str, Any]]:
    return sorted((r for r in rows if r["extra_ms"] > least), key=lambda r: -r["extra_ms"])[:TOP]
