"""How onnxruntime sessions are configured, the same for accuracy and for latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime

if __package__:
    from edgec.probe.sums import make_exact
else:  # run as a folder, perhaps on a machine without edgec
    from sums import make_exact

QUIET = 4  # onnxruntime's severity "fatal": what goes wrong is raised as well


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Sequential, `threads` in an operator, 1 between operators, spinning on, sums of 8-bit products without saturation."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.log_severity_level = QUIET
    make_exact(options)
    return options
