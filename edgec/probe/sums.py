"""Whether onnxruntime's sums of 8-bit products overflow on this CPU, by trying one.

x86 CPUs without 8-bit dot products (VNNI) add pairs of products of an unsigned and a signed byte in 16 bits. Exact sums
are to be had (EXACT), but on CPUs that need no help they take int8 convolutions twice the time.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

EXACT = "session.x64quantprecision"  # the entry of a session's configuration: "1": 8-bit products are summed without saturation

# an .onnx file of one node: MatMulInteger of "a", unsigned bytes [1, 4], and four signed ones of 127
PRODUCT = (
    b"\x08\x04\x12\x00:\\\n\x1a\n\x01a\n\x01b\x12\x03sum\"\rMatMulInteger\x12\x01g*\x0f\x08\x04\x08\x01\x10\x03*\x04\x7f\x7f\x7f\x7fB\x01b"
    b"Z\x13\n\x01a\x12\x0e\n\x0c\x08\x02\x12\x08\n\x02\x08\x01\n\x02\x08\x04b\x15\n\x03sum\x12\x0e\n\x0c\x08\x06\x12\x08\n\x02\x08\x01\n"
    b"\x02\x08\x01B\x04\n\x00\x10\n"
)  # fmt: skip


@cache
def overflow() -> bool:
    """Whether four products of 255 and 127 come to less than they should."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(PRODUCT, options, providers=["CPUExecutionProvider"])
    total = np.asarray(session.run(None, {"a": np.full((1, 4), 255, np.uint8)})[0])
    return int(total.item()) != 4 * 255 * 127


def make_exact(options: Any) -> None:
    """Set `options`, of an onnxruntime session, to sums that do not saturate where others would."""
    if overflow():
        options.add_session_config_entry(EXACT, "1")
