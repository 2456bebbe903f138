"""A tiny ONNX file, and devices that are none."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parent))
import boards


@pytest.fixture
def tiny_onnx(tmp_path: Path) -> Callable[..., Path]:
    """Writes two 3 x 3 convolutions, [batch, 3, side, side] -> [batch, 4, side, side], to a named file."""

    def write(
        name: str = "tiny.onnx", image: Sequence[int | str] = (1, 3, 16, 16), ir_version: int = 9
    ) -> Path:
        rng = np.random.default_rng(0)
        kernels = [rng.standard_normal(s, dtype=np.float32) for s in ((4, 3, 3, 3), (4, 4, 3, 3))]
        weights = [numpy_helper.from_array(k, f"w{i}") for i, k in enumerate(kernels)]
        nodes = [
            helper.make_node("Conv", ["images", "w0"], ["a"], name="first", pads=[1] * 4),
            helper.make_node("Relu", ["a"], ["b"], name="act"),
            helper.make_node("Conv", ["b", "w1"], ["out"], name="second", pads=[1] * 4),
        ]
        given = helper.make_tensor_value_info("images", TensorProto.FLOAT, list(image))
        output = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
        graph = helper.make_graph(nodes, "tiny", [given], [output], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=ir_version)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, str(path))
        return path

    return write


@pytest.fixture
def board(tmp_path: Path) -> Iterator[boards.Board]:
    """A board behind ssh, or a skip where there is no OpenSSH server."""
    if boards.SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no OpenSSH server and client; install openssh-server")
    started = boards.start(tmp_path / "board")
    yield started
    started.stop()


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a phone behind a program that stands for adb."""
    home = boards.fake_adb(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return home
