"""Other runtimes: real ones where they are installed, and converters that lie, crash, hang or are missing."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from edgec.bench.conversions import conversions
from edgec.bench.files import candidates_of
from edgec.core.errors import Missing, StageError
from edgec.core.events import Events
from edgec.core.network import Network
from edgec.devices.subprocess_session import ServedSession
from edgec.onnx.export import to_onnx
from edgec.onnx.fp16 import to_fp16
from edgec.quantization.surgery import quantization_of
from edgec.recipe import Quantize
from edgec.runtimes import convert as packaging
from edgec.runtimes.artifact import write_artifact
from edgec.runtimes.converters.litert_environment import converter_python
from edgec.runtimes.tool import run_python, run_tool
from edgec.stages.quantize import quantize

NEEDS = {
    "openvino": "openvino",
    "ncnn": "pnnx",
    "mnn": "MNN",
    "litert": "ai_edge_litert",
    "executorch": "executorch",
}


@pytest.fixture(scope="module")
def artifacts(
    nearness: Callable[..., Any], detector: Network, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """model.fp32, model.fp16 and model.int8 of the detector, with contracts."""
    from edgec.env import Env

    folder = tmp_path_factory.mktemp("artifacts")
    task = nearness()
    env = Env(task, "quantize", Events(), detector, folder / "scratch", folder / "out")
    config = Quantize(images=4, batch=2, sensitivity_images=1, max_drop=1, metric_layers=0)
    network, _ = quantize(config, detector, env)
    model = to_onnx(detector.build(), torch.zeros(1, 3, 64, 64), ["head0", "head1"])
    quantization = quantization_of(network)
    assert quantization is not None
    contract = task.contract(detector.build())
    made = {"fp32": model, "fp16": to_fp16(model), "int8": quantization.graph(model)}
    for precision, graph in made.items():
        write_artifact(folder / f"model.{precision}.onnx", graph, contract)
    return {f"model.{p}": folder / f"model.{p}.onnx" for p in made}


@pytest.fixture
def run(artifacts: dict[str, Path], tmp_path: Path) -> Callable[..., Any]:
    def go(runtime: str, names: list[str], env: Any = None) -> Any:
        candidates = candidates_of([artifacts[name] for name in names], ["onnxruntime"])
        return conversions(candidates, [runtime], tmp_path / "out", Events(listeners=()), env)

    return go


@pytest.mark.runtimes
@pytest.mark.parametrize("runtime", list(NEEDS))
def test_real_runtimes_give_the_artifacts_outputs(
    run: Callable[..., Any], runtime: str, nearness: Callable[..., Any], detector: Network, tmp_path: Path
) -> None:
    if importlib.util.find_spec(NEEDS[runtime]) is None:
        pytest.skip(f"{NEEDS[runtime]} is not installed")
    if runtime == "litert" and converter_python() is None:
        pytest.skip("edgec doctor --install litert-converter was not run")
    from edgec.env import Env

    env = Env(nearness(), "profile", Events(listeners=()), detector, tmp_path, tmp_path)
    converted = {
        c.result.artifact.name: c for c in run(runtime, ["model.fp32", "model.fp16", "model.int8"], env)
    }
    found = {name: c.result for name, c in converted.items()}
    assert found["model.fp32"].reason == ""
    assert found["model.fp32"].snr_db > 80
    assert found["model.fp32"].metrics["map50"] > 0.99
    assert found["model.fp16"].snr_db > 35
    assert (
        found["model.int8"].snr_db is not None
    )  # its accuracy may be refused, honestly: noise is the metric here
    assert found["model.int8"].snr_db > 12
    assert found["model.int8"].bytes < 0.7 * found["model.fp32"].bytes
    told = json.loads((converted["model.fp32"].folder / "package.json").read_text())
    assert told["outputs"] == ["head0", "head1"]


def lying(factor: float) -> Callable[..., Any]:
    """A package of a runtime that gives the fp32 outputs times a factor."""

    def convert(source: Any, folder: Path) -> str:
        model = onnx.ModelProto()
        model.CopyFrom(source.model)
        for item in model.graph.initializer:
            if item.name == "head16.weight":
                item.CopyFrom(
                    onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(item) * factor, item.name)
                )
        onnx.save(model, str(folder / "model.onnx"))
        return "model.onnx"

    return convert


@pytest.mark.runtimes
def test_a_converter_that_succeeds_with_wrong_numbers_has_failed(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    monkeypatch.setattr(packaging, "converter", lambda runtime: lying(1.0))
    (right,) = run("openvino", ["model.fp32"])
    assert right.result.passed
    monkeypatch.setattr(packaging, "converter", lambda runtime: lying(1.1))
    (refused,) = run("openvino", ["model.fp32"])
    wrong = refused.result
    assert wrong.kind == "failed"
    assert "dB from onnxruntime's" in wrong.reason and "the conversion is wrong" in wrong.reason
    assert not wrong.passed and wrong.snr_db < 60


def test_crashes_hangs_and_missing_programs_are_reported(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="signal 11"):
        run_python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", [], tmp_path, "a.onnx", "ncnn")
    with pytest.raises(StageError, match=r"status 3: .*no such operator"):
        run_python("import sys; print('no such operator'); sys.exit(3)", [], tmp_path, "a.onnx", "ncnn")
    with pytest.raises(StageError, match="more than 1 s"):
        run_tool(["sleep", "30"], tmp_path, "a.onnx", "ncnn", limit_s=1)
    with pytest.raises(Missing, match=r"pip install 'edgec\[ncnn\]'") as raised:
        run_tool(["a-converter-that-is-not-there"], tmp_path, "a.onnx", "ncnn")
    assert raised.value.exit_code == 4
    with pytest.raises(Missing, match=r"pip install 'edgec\[mnn\]'"):
        run_python("import module_that_is_not_there", [], tmp_path, "a.onnx", "mnn")


def test_no_converter_may_install_or_send_anything(tmp_path: Path) -> None:
    run_python(
        "import os, sys; open('told', 'w').write(os.environ['PIP_NO_INDEX'] + os.environ['https_proxy'])",
        [], tmp_path, "a", "mnn",
    )  # fmt: skip
    assert (tmp_path / "told").read_text() == "1http://127.0.0.1:9"


def package_of(tmp_path: Path, module: str) -> Path:
    """A package whose runtime `ncnn` is a module of the test's own."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "ncnn.py").write_text(module)
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "model.param").write_text("")
    told = {
        "runtime": "ncnn",
        "file": "model.param",
        "precision": "fp32",
        "inputs": {"images": [1, 3, 4, 4]},
        "outputs": ["out"],
    }
    (folder / "package.json").write_text(json.dumps(told))
    return folder


def test_a_runtime_that_crashes_takes_nothing_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package_of(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(StageError, match="SIGSEGV"):
        ServedSession(folder, "ncnn")


def test_a_runtime_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = package_of(tmp_path, "import time\ntime.sleep(600)")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(StageError, match="no answer in 2 s"):
        ServedSession(folder, "ncnn", limit_s=2)


def test_a_missing_runtime_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = package_of(tmp_path, "raise ImportError('nothing here')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(Missing, match=r"pip install 'edgec\[ncnn\]'"):
        ServedSession(folder, "ncnn")


def test_errors_while_running_leave_the_session_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
import numpy as np
__version__ = "0"
class Mat:
    def __init__(self, array): self.array = array
    def clone(self): return self
class Options: pass
class Extractor:
    def set_light_mode(self, on): pass
    def input(self, name, mat):
        print("noise on standard output")
        if mat.array.max() > 1: raise ValueError("too bright")
        self.array = mat.array
    def extract(self, name): return 0, self.array * 2
class Net:
    def __init__(self): self.opt = Options()
    def load_param(self, path): return 0
    def load_model(self, path): return 0
    def input_names(self): return ["in0"]
    def output_names(self): return ["out0"]
    def create_extractor(self): return Extractor()
"""
    folder = package_of(tmp_path, source)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    images = np.full((2, 3, 4, 4), 0.5, np.float32)
    with ServedSession(folder, "ncnn") as session:
        assert np.array_equal(session.run({"images": images})[0], images * 2)
        with pytest.raises(StageError, match="too bright"):
            session.run({"images": images * 9})
        assert np.array_equal(session.run({"images": images})[0], images * 2)
