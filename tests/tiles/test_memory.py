"""The memory that a graph is said to take, against what it takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgec.core.network import Network
from edgec.onnx.export import to_onnx
from edgec.onnx.fp16 import to_fp16
from edgec.quantization.calibration import calibrate
from edgec.quantization.placement import place_pairs
from edgec.quantization.qdq_graph import insert_pairs
from edgec.tiles.memory import bytes_per_pixel

SIDE = 224  # pixels
GROWTH = """
import sys
import numpy as np
from pathlib import Path
from edgec.onnx.session import OnnxSession

def kib(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field))

session = OnnxSession(Path(sys.argv[1]), small_memory=True)
side = int(sys.argv[2])
session.run({"images": np.zeros((1, 3, 8, 8), np.float32)})
x = np.random.default_rng(0).random((1, 3, side, side), np.float32)
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
before = kib("VmRSS")
for _ in range(3):
    session.run({"images": x})
print(1024 * (kib("VmHWM") - before))
"""


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    net = Network.initial("imdn", {"scale": 4, "features": 32, "blocks": 3}, 0).build()
    return to_onnx(net, torch.zeros(1, 3, 16, 16), ["image"], size_multiple=1)


def quantized(graph: onnx.ModelProto) -> onnx.ModelProto:
    patches = np.random.default_rng(1).random((4, 3, 16, 16), dtype=np.float32)
    return insert_pairs(
        graph, calibrate(graph, list(place_pairs(graph).source), patches, "minmax", batch=1), []
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_it_holds_in_onnxruntime(graph: onnx.ModelProto, precision: str, tmp_path: Path) -> None:
    model = {"fp32": lambda g: g, "fp16": to_fp16, "int8": quantized}[precision](graph)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(path), str(SIDE)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    grown, told = int(done.stdout) / SIDE**2, bytes_per_pixel(model)
    assert grown <= told * 1.05, f"{grown:.0f} bytes a pixel, {told:.0f} told"
    assert grown >= told / 3, (
        f"{grown:.0f} bytes a pixel, {told:.0f} told: tiles are smaller than they need be"
    )


def test_integers_take_less_and_halves_do_not(graph: onnx.ModelProto) -> None:
    single = bytes_per_pixel(graph)
    assert bytes_per_pixel(to_fp16(graph)) == pytest.approx(single, rel=0.05)
    assert bytes_per_pixel(quantized(graph)) < 0.8 * single
