# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The operators of a network, traced."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, fx, nn
from torch._decomp import get_decompositions
from torch.fx.graph import CodeGen

from edgec.core.errors import StageError

EXPLICIT = [torch.ops.aten.silu.default]  # written as the operators that ONNX has for them


def traced(net: nn.Module, example: Tensor) -> fx.GraphModule:
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
            f"the network cannot be traced for quantization-aware training ({first}); avoid Python control flow on tensors"
        ) from error
    assert isinstance(module, fx.GraphModule)
    module.graph.set_codegen(CodeGen())  # outputs as a flat tuple, which copies without warnings
    return fx.GraphModule(module, module.graph)  # an exported module refuses train()
