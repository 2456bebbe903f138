"""LiteRT: its converter's environment, and how a .tflite lies. Real conversions are in tests/stages/test_conversions.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgec.core.errors import Missing, StageError
from edgec.core.runtimes import converted_runtimes
from edgec.probe import litert_session
from edgec.runtimes.convert import installed
from edgec.runtimes.converters import litert, litert_environment
from edgec.runtimes.converters.litert_converter import position_of
from edgec.runtimes.source import ConversionSource


@pytest.fixture
def source(tmp_path: Path) -> ConversionSource:
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 4, 6])
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, 4, 6])
    graph = helper.make_graph([helper.make_node("Relu", ["images"], ["out"])], "tiny", [image], [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    value = np.ones((1, 3, 4, 6), np.float32)
    np.savez(tmp_path / "golden.npz", images=value, out=value)
    return ConversionSource(
        tmp_path / "model.fp32.onnx", model, "fp32", {"images": [1, 3, 4, 6]}, golden=tmp_path / "golden.npz"
    )


@pytest.fixture
def converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment whose python writes down what it was given."""
    monkeypatch.setenv("EDGEC_CONVERTERS", str(tmp_path / "converters"))
    python = tmp_path / "converters" / "litert" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\nls > {tmp_path}/given\ncp job.json {tmp_path}\necho x > model.tflite\n")
    python.chmod(0o755)
    (tmp_path / "converters" / "litert" / litert_environment.DONE).write_text("{}")
    return tmp_path


def test_without_the_converter_the_command_that_makes_it_is_reported(
    source: ConversionSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEC_CONVERTERS", str(tmp_path / "nothing"))
    with pytest.raises(Missing, match="edgec doctor --install litert-converter"):
        litert.convert(source, tmp_path)
    there, absent = installed()
    assert "litert" in absent
    assert sorted(there + absent) == sorted(converted_runtimes())


def test_an_environment_that_was_not_installed_whole_is_none(converter: Path) -> None:
    assert litert_environment.converter_python() is not None
    (converter / "converters" / "litert" / litert_environment.DONE).unlink()
    assert litert_environment.converter_python() is None


def test_what_the_converter_gets(converter: Path, source: ConversionSource, tmp_path: Path) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    assert litert.convert(source, folder) == "model.tflite"
    assert (tmp_path / "given").read_text().split() == ["given.onnx", "golden.npz", "images.npy", "job.json"]
    assert json.loads((tmp_path / "job.json").read_text()) == {
        "precision": "fp32",
        "input": "images",
        "outputs": ["out"],
    }
    assert [p.name for p in folder.iterdir()] == ["model.tflite"]
    assert source.model.graph.input[0].type.tensor_type.shape.dim[2].dim_value == 4


def test_a_network_of_two_images_is_refused(
    converter: Path, source: ConversionSource, tmp_path: Path
) -> None:
    two = ConversionSource(
        source.path, source.model, "fp32", {**source.shapes, "more": [1]}, golden=source.golden
    )
    with pytest.raises(StageError, match="has 2 inputs"):
        litert.convert(two, tmp_path)


def test_installing_fails_with_the_command_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEC_CONVERTERS", str(tmp_path))
    monkeypatch.setattr(litert_environment, "PYTHONS", (sys.version_info[:2], sys.version_info[:2]))
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(StageError, match=r"false -m venv --clear .*ended with status 1"):
        litert_environment.install_converter()
    assert litert_environment.converter_python() is None
    monkeypatch.setattr(litert_environment, "PYTHONS", ((3, 0), (3, 1)))
    with pytest.raises(Missing, match=r"Python 3.0 to 3.1"):
        litert_environment.install_converter()


def test_images_in_the_size_of_the_network() -> None:
    images = np.arange(2 * 3 * 6 * 8, dtype=np.float32).reshape(2, 3, 6, 8)
    assert np.array_equal(litert.fitting(images, [1, 3, 4, 4]), images[:, :, 1:5, 2:6])
    grown = litert.fitting(images, [1, 3, 9, 8])
    assert grown.shape == (2, 3, 9, 8)
    assert np.array_equal(grown[:, :, :6], images)
    assert np.array_equal(grown[:, :, 6:], images[:, :, :2:-1])


def test_outputs_are_distinguished_by_their_values() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.random((1, 4, 4, 4)) for _ in range(2))  # shapes tell nothing here
    found = [np.moveaxis(second, 1, -1), first, np.zeros((1, 7))]
    assert position_of(first, found) == {"position": 1, "channels_last": False}
    assert position_of(second, found) == {"position": 0, "channels_last": True}
    with pytest.raises(SystemExit, match="no output has the shape"):
        position_of(np.zeros((2, 2)), found)


class Interpreter:
    """Adds 1 to its input [1, h, w, 3]; without a delegate, 2."""

    opened: ClassVar[list[str]] = []

    def __init__(self, path: str, num_threads: int, experimental_op_resolver_type: str = "") -> None:
        Interpreter.opened.append(Path(path).name)
        self.added = 2.0 if experimental_op_resolver_type else 1.0
        self.shape = (1, 4, 6, 3)

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"index": 0, "shape": np.array(self.shape)}]

    get_output_details = get_input_details

    def resize_tensor_input(self, index: int, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def allocate_tensors(self) -> None:
        pass

    def set_tensor(self, index: int, value: Any) -> None:
        assert value.shape == self.shape and value.flags.c_contiguous
        self.value = value

    def invoke(self) -> None:
        self.result = self.value + self.added

    def get_tensor(self, index: int) -> Any:
        return self.result


def test_other_sizes_run_in_the_file_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = type("module", (), {"Interpreter": Interpreter, "OpResolverType": type(
        "resolvers", (), {"BUILTIN_WITHOUT_DEFAULT_DELEGATES": "plain"})})  # fmt: skip
    monkeypatch.setattr(litert_session, "import_module", lambda name: module)
    monkeypatch.setattr(litert_session, "version", lambda name: "1")
    layout = {"input": {"channels_last": True}, "outputs": [{"position": 0, "channels_last": True}]}
    (tmp_path / "layout.json").write_text(json.dumps(layout))
    (tmp_path / "any.tflite").touch()
    run, _ = litert_session.open_model(tmp_path / "model.tflite", 1, {"inputs": {"images": [1, 3, 4, 6]}})
    for shape, added in (((1, 3, 4, 6), 1), ((1, 3, 8, 6), 2), ((1, 3, 4, 6), 1)):
        image = np.random.default_rng(0).random(shape, dtype=np.float32)
        assert np.allclose(run({"images": image})[0], image + added)
    assert Interpreter.opened == ["model.tflite", "model.tflite", "any.tflite", "model.tflite"]


def test_the_models_own_graph_stays_as_it_is(
    converter: Path, source: ConversionSource, tmp_path: Path
) -> None:
    before = source.model.SerializeToString()
    int8 = ConversionSource(source.path, source.model, "int8", {"images": [1, 3, 8, 8]}, True, source.golden)
    folder = tmp_path / "package"
    folder.mkdir()
    litert.convert(int8, folder)
    assert source.model.SerializeToString() == before
    assert "any.onnx" in (tmp_path / "given").read_text()
    assert isinstance(onnx.ModelProto.FromString(before), onnx.ModelProto)
