"""ExecuTorch: a .pte for its XNNPACK kernels, int8 with the artifact's own scales.

Converting runs `executorch_program` in a separate process.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgec.onnx.proto import save_model
from edgec.runtimes.source import ConversionSource
from edgec.runtimes.tool import run_tool

PROGRAM = "edgec.runtimes.converters.executorch_program"


def convert(source: ConversionSource, folder: Path) -> str:
    """Write model.pte and, where sizes are open, any.pte."""
    given = folder / "given.onnx"
    save_model(source.model, given)
    sizes = "open" if source.open_sizes else "fixed"
    (shape,) = list(source.shapes.values())[:1]
    command = [sys.executable, "-P", "-m", PROGRAM, source.precision, sizes, *map(str, shape)]
    run_tool(command, folder, f"{source.path.name} for executorch", "executorch")
    given.unlink()
    return "model.pte"
