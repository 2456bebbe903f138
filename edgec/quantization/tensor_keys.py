"""Names of tensors that depend on the network alone."""

from __future__ import annotations

import hashlib

import onnx

from edgec.onnx.graph import convolutions

LONGEST_KEY = 100


def keys_of(model: onnx.ModelProto) -> dict[str, str]:
    """A name for each tensor that depends on the network alone, not on how an export called its tensors.

    A convolution's output is named for its layer, other tensors for the operator and the names of its inputs.
    """
    layers = {node.output[0]: layer for layer, node in convolutions(model).items()}
    keys = {i.name: i.name for i in model.graph.input}
    met: dict[str, int] = {}  # pools of several sizes over one tensor are distinguished by their order
    for node in model.graph.node:
        data = [keys[name] for name in node.input if name in keys]
        for index, output in enumerate(node.output):
            key = f"{node.op_type}({','.join(data)})" + (f"#{index}" if index else "")
            if len(key) > LONGEST_KEY:  # a chain of sums
                key = f"{node.op_type}:{hashlib.sha256(key.encode()).hexdigest()[:16]}"
            met[key] = met.get(key, 0) + 1
            key += f"~{met[key]}" if met[key] > 1 else ""
            keys[output] = f"{layers[output]}:out" if output in layers else key
    return keys
