"""Runs an artifact for another process: arrays in, arrays out, until the input ends.

A frame is its length (8 bytes, little-endian) and an .npz. An answer holds o0, o1, ..., or "error", a text; the
first says "ready", or "kind" and "error" where nothing can be served.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np


def read_frame(stream: BinaryIO) -> dict[str, Any] | None:
    """The arrays of the next frame; None at the end."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    (length,) = struct.unpack("<Q", head)
    body = stream.read(length)
    if len(body) < length:
        return None
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def write_frame(stream: BinaryIO, arrays: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    body = buffer.getvalue()
    stream.write(struct.pack("<Q", len(body)) + body)
    stream.flush()


def write_error(stream: BinaryIO, kind: str, message: str) -> None:
    """Instead of the first answer: nothing can be served."""
    write_frame(stream, {"kind": np.array(kind), "error": np.array(message[:2000])})


def serve(run: Callable[[Mapping[str, Any]], list[Any]], given: BinaryIO, answers: BinaryIO) -> None:
    """Answer every frame of `given`."""
    write_frame(answers, {"ready": np.array(1)})
    while (feeds := read_frame(given)) is not None:
        try:
            outputs = run(feeds)
        except Exception as error:  # runtimes raise classes of their own
            write_frame(answers, {"error": np.array(f"{type(error).__name__}: {error}"[:2000])})
            continue
        write_frame(answers, {f"o{index}": np.asarray(value) for index, value in enumerate(outputs)})
