"""Outputs of artifacts on ARM64, in an emulated processor: docs/devices.md says how to make its Python. Times mean nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from boards import Shell

from edgec.core.events import Events
from edgec.devices.probe_job import ProbeJob
from edgec.devices.remote import Remote

LIMIT_SECONDS = 900.0


@pytest.fixture
def board(tmp_path: Path) -> Remote:
    python = os.environ.get("EDGEC_ARM64_PYTHON")
    if python is None:
        pytest.skip("set EDGEC_ARM64_PYTHON to a program that runs Python on ARM64; see docs/devices.md")
    told = subprocess.run(
        [python, "-c", "import platform; print(platform.machine())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "aarch64"
    return Remote("arm64", Shell(tmp_path / "board"), python)


def quantized(path: Path) -> Path:
    """int8 with unsigned activations and a scale for each channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            self.left = iter([{"images": rng.random((1, 3, 16, 16), dtype=np.float32)} for _ in range(4)])

        def get_next(self) -> dict[str, np.ndarray]:
            return next(self.left, None)  # type: ignore[return-value]

    made = path.with_name("int8.onnx")
    quantize_static(
        str(path), str(made), Images(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return made


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_outputs_on_arm64(board: Remote, tiny_onnx: Callable[..., Path]) -> None:
    fp32 = tiny_onnx()
    with board.lease(Events()):
        for path, least in ((fp32, 100.0), (quantized(fp32), 60.0)):
            feeds: dict[str, Any] = {
                "images": np.random.default_rng(1).random((1, 3, 16, 16), dtype=np.float32)
            }
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            (out,) = session.run(None, feeds)
            golden = path.with_suffix(".npz")
            outputs: dict[str, Any] = {session.get_outputs()[0].name: np.asarray(out)}
            np.savez(golden, **feeds, **outputs)
            job: ProbeJob = {
                "what": "latency", "runtime": "onnxruntime", "artifact": str(path), "golden": str(golden), "threads": 1,
                "warmup_seconds": 0.0, "min_seconds": 0.01, "max_seconds": 0.02, "interval": 0.5,
            }  # fmt: skip
            answer: Any = board.probe(job, LIMIT_SECONDS)
            assert answer["snr_db"] >= least, path
    board.close()
