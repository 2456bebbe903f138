"""Accuracy and latency run in sessions that are configured alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from edgec.onnx.session import OnnxSession
from edgec.probe.onnx_session import open_session

PLAIN = ("intra_op_num_threads", "inter_op_num_threads", "execution_mode", "graph_optimization_level",
         "enable_mem_pattern", "enable_cpu_mem_arena", "log_severity_level")  # fmt: skip


def configured(session: onnxruntime.InferenceSession) -> dict[str, Any]:
    options = session.get_session_options()
    entries: dict[str, Any] = {name: getattr(options, name) for name in PLAIN}
    for key in ("session.intra_op.allow_spinning", "session.x64quantprecision"):
        try:
            entries[key] = options.get_session_config_entry(key)
        except RuntimeError:  # it was not set
            entries[key] = None
    return entries


@pytest.mark.parametrize("threads", [1, 2])
def test_sessions_for_accuracy_and_for_latency_are_configured_alike(
    tiny_onnx: Callable[..., Path], threads: int
) -> None:
    path = tiny_onnx()
    accuracy = configured(OnnxSession(path, threads)._session)
    assert accuracy == configured(open_session(path, threads))
    assert accuracy["intra_op_num_threads"] == threads
    assert accuracy["session.intra_op.allow_spinning"] == "1"
