"""Writes model.pte from given.onnx, in the working folder: PRECISION fixed|open SHAPE...

For open sizes any.pte too. It sets memory aside for the largest image, so what is timed is the file for one size.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgec.core.errors import StageError
from edgec.onnx.proto import load_model
from edgec.onnx.to_torch import TorchGraph

SMALLEST, LARGEST = 8, 512  # sides of an image, where sizes are open


class Halves(nn.Module):
    """Computes in half precision; takes and gives float32."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.half()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(output.float() for output in self.net(image.half()))


def write(net: nn.Module, shape: Sequence[int], open_sizes: bool, path: Path) -> None:
    """Trace, give XNNPACK what it can run, and write."""
    exir: Any = import_module("executorch.exir")
    xnnpack: Any = import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    free = {
        axis: torch.export.Dim(name, min=SMALLEST, max=LARGEST)
        for axis, name in ((2, "height"), (3, "width"))
    }
    program = torch.export.export(net, (torch.zeros(*shape),), dynamic_shapes=(free,) if open_sizes else None)
    lowered = exir.to_edge_transform_and_lower(program, partitioner=[xnnpack.XnnpackPartitioner()])
    path.write_bytes(lowered.to_executorch().buffer)


def main() -> None:
    precision, sizes, *shape = sys.argv[1:]
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    try:
        net = TorchGraph(load_model(Path("given.onnx"))).eval()
        net = Halves(net).eval() if precision == "fp16" else net
        write(net, [int(s) for s in shape], False, Path("model.pte"))
        if sizes == "open":
            write(net, [int(s) for s in shape], True, Path("any.pte"))
    except StageError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
