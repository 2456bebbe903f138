"""ExecuTorch: what its converter is given, and how files are run. Real conversions are in tests/stages/test_conversions.py."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from edgec.core.errors import Missing, StageError
from edgec.probe import executorch_session
from edgec.runtimes.converters import executorch
from edgec.runtimes.source import ConversionSource

# A package that lowers to the text of what it was given, one line for each input and each operator.
EXIR = """
class Lowered:
    def __init__(self, program):
        lines = [str(tuple(n.meta["val"].shape)) for n in program.graph.nodes if n.op == "placeholder"]
        lines += [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
        self.buffer = "\\n".join(lines).encode()
    def to_executorch(self):
        return self
def to_edge_transform_and_lower(program, partitioner):
    return Lowered(program)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "path" / "executorch"
    (root / "backends/xnnpack/partition").mkdir(parents=True)
    for folder in (root, root / "backends", root / "backends/xnnpack", root / "backends/xnnpack/partition"):
        (folder / "__init__.py").write_text("")
    (root / "exir.py").write_text(EXIR)
    partitioner = root / "backends/xnnpack/partition/xnnpack_partitioner.py"
    partitioner.write_text("class XnnpackPartitioner:\n    pass\n")
    monkeypatch.setenv("PYTHONPATH", str(root.parent))
    return root


def source(precision: Any = "fp32", open_sizes: bool = False, kind: str = "Relu") -> ConversionSource:
    sides = [None, None] if open_sizes else [16, 24]
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *sides])
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, *sides])
    graph = helper.make_graph([helper.make_node(kind, ["images"], ["out"])], "tiny", [image], [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return ConversionSource(Path("model.onnx"), model, precision, {"images": [1, 3, 16, 24]}, open_sizes)


def test_one_size_gives_one_file(package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    assert executorch.convert(source(), folder) == "model.pte"
    assert [f.name for f in folder.iterdir()] == ["model.pte"]
    assert (folder / "model.pte").read_text().split("\n") == ["(1, 3, 16, 24)", "aten.relu.default"]


def test_open_sizes_give_another_for_the_others(package: Path, tmp_path: Path) -> None:
    executorch.convert(source(open_sizes=True), tmp_path)
    assert (tmp_path / "model.pte").read_text().startswith("(1, 3, 16, 24)\n")
    first = (tmp_path / "any.pte").read_text().split("\n")[0]
    assert first.startswith("(1, 3, s") and "16" not in first


def test_halves_inside_floats_outside(package: Path, tmp_path: Path) -> None:
    executorch.convert(source("fp16"), tmp_path)
    told = (tmp_path / "model.pte").read_text().split("\n")
    operators = [line.split(".")[1] for line in told[1:]]
    assert [name for name in operators if not name.startswith("_assert")] == ["to", "relu", "to"]


def test_an_operator_that_is_not_translated_is_named(package: Path, tmp_path: Path) -> None:
    with pytest.raises(
        StageError, match=r"model.onnx for executorch: .*status 1: Sin: not translated to torch"
    ):
        executorch.convert(source(kind="Sin"), tmp_path)


def test_without_the_package_the_extra_is_reported(package: Path, tmp_path: Path) -> None:
    (package / "exir.py").write_text("raise ModuleNotFoundError(\"No module named 'executorch'\")\n")
    with pytest.raises(Missing, match=r"pip install 'edgec\[executorch\]'"):
        executorch.convert(source(), tmp_path)


class Method:
    """Adds what its file says."""

    def __init__(self, file: Path) -> None:
        self.added = float(file.read_text())

    def execute(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        return [inputs[0] + self.added]


def test_other_sizes_run_in_the_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    opened: list[str] = []

    def load_program(file: Path) -> Any:
        opened.append(file.name)
        return SimpleNamespace(load_method=lambda name: Method(file))

    runtime = ModuleType("executorch.runtime")
    runtime.Runtime = SimpleNamespace(get=lambda: SimpleNamespace(load_program=load_program))  # type: ignore[attr-defined]
    binding = ModuleType("executorch.extension.pybindings._C")
    binding._unsafe_reset_threadpool = threads.append  # type: ignore[attr-defined]
    for name in ("executorch", "executorch.extension", "executorch.extension.pybindings"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "executorch.runtime", runtime)
    monkeypatch.setitem(sys.modules, "executorch.extension.pybindings._C", binding)
    monkeypatch.setattr(executorch_session, "version", lambda name: "1.0")
    (tmp_path / "model.pte").write_text("1")
    (tmp_path / "any.pte").write_text("2")
    run, version = executorch_session.open_model(
        tmp_path / "model.pte", 2, {"inputs": {"images": [1, 3, 4, 4]}}
    )
    assert (threads, opened, version) == ([2], ["model.pte"], "1.0")
    assert run({"images": np.zeros((1, 3, 4, 4), np.float32)})[0].max() == 1
    for _ in range(2):
        assert run({"images": np.zeros((1, 3, 8, 4), np.float32)})[0].max() == 2
    assert opened == ["model.pte", "any.pte"]
