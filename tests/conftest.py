"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.testing import null_runtime


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data and weights, or a skip when it is not there."""
    root = Path(os.environ.get("EDGEC_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")).resolve()
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set EDGEC_DATA")
    return root


@pytest.fixture(autouse=True)
def own_leases(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests do not wait for measurements that run on this machine."""
    monkeypatch.setenv("EDGEC_LEASES", str(tmp_path_factory.getbasetemp()))


@pytest.fixture(name="null_runtime")
def known_null_runtime() -> Iterator[str]:
    """The name of a runtime that computes nothing, which recipes know in this test."""
    with null_runtime() as name:
        yield name


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
def save() -> Callable[..., Path]:
    """Writes a product with a constant, [1, 3, side, side] of any type, to a path."""

    def write(path: Path, element: int = TensorProto.FLOAT, op: str = "Mul", side: int = 16) -> Path:
        dtype = helper.tensor_dtype_to_np_dtype(element)
        weights = [numpy_helper.from_array(np.ones((1, 3, side, side), dtype), "w")]
        nodes = [helper.make_node(op, ["images", "w"], ["out"], name="product")]
        given = helper.make_tensor_value_info("images", element, [1, 3, side, side])
        output = helper.make_tensor_value_info("out", element, [1, 3, side, side])
        graph = helper.make_graph(nodes, "tiny", [given], [output], weights)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path)
        )
        return path

    return write


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where the extras are installed on purpose (EDGEC_REQUIRE_RUNTIMES), a real runtime that is missing is a failure."""
    report = yield
    if report.skipped and item.get_closest_marker("runtimes") and os.environ.get("EDGEC_REQUIRE_RUNTIMES"):
        report.outcome = "failed"
    return report
