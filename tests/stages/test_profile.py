"""The profile stage on tiny files, in the null runtime, onnxruntime and torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.core.errors import StageError
from edgec.core.events import Progress
from edgec.core.network import Network
from edgec.core.predictor import Predictor
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.artifact_id import DENSE
from edgec.core.results.profile import ProfileResult
from edgec.env import Env
from edgec.recipe import Profile, TorchWays
from edgec.stages.profile import MODEL, profile
from edgec.tasks.protocol import Split
from edgec.testing import TinyTask, env_for

QUICK: dict[str, Any] = {"warmup_seconds": 0.01, "min_seconds": 0.03, "max_seconds": 0.1, "interval": 0.3}


@dataclass
class Sixteen(TinyTask):
    """Of 16 x 16 pixels; remembers the types of the outputs that it evaluated."""

    seen: list[str] = field(default_factory=list[str])

    side = 16

    def evaluate(self, predictor: Predictor, split: Split, limit: int | None = None) -> Accuracy:
        (out,) = predictor.run(np.ones((1, 3, 16, 16), np.float32))
        self.seen.append(str(out.dtype))
        return Accuracy(values={"map50": 0.5})


@pytest.fixture
def heard() -> list[Any]:
    return []


@pytest.fixture
def make_env(tmp_path: Path, heard: list[Any]) -> Callable[..., Env]:
    def make(network: Network, inputs: Path | None = None, dense: Network | None = None) -> Env:
        env = env_for(Sixteen(), tmp_path, stage="profile", dense=dense or network, listeners=(heard.append,))
        return replace(env, inputs=inputs)

    return make


def test_the_figures_of_an_export_folder(
    save: Callable[..., Path],
    tmp_path: Path,
    null_runtime: str,
    make_env: Callable[..., Env],
    heard: list[Any],
) -> None:
    folder = tmp_path / "export"
    for name in ("model.int8", "model.fp32", "dense.fp32"):
        save(folder / f"{name}.onnx")
    network = Network("none")
    config = Profile(runtimes=(null_runtime,), threads=(1,), processes=2, **QUICK)
    same, result = profile(config, network, make_env(network, folder))
    assert same is network
    figures = result.first
    assert [c.artifact.name for c in figures.cells] == ["dense.fp32", "model.fp32", "model.int8"]
    assert figures.environment.cores >= 1 and figures.environment.versions
    for cell in figures.cells:
        assert cell.ci_low_ms <= cell.median_ms <= cell.ci_high_ms
        assert cell.p90_ms is not None and cell.p99_ms is not None and cell.p90_ms <= cell.p99_ms
        assert len(cell.samples_ms) <= 200 <= cell.runs
    pairs = {(s.artifact.name, s.against.name) for s in figures.speedups}
    assert pairs == {
        ("model.fp32", "dense.fp32"), ("model.int8", "dense.fp32"), ("model.int8", "model.fp32"),
    }  # fmt: skip
    assert all(s.ci_low <= s.ratio <= s.ci_high for s in figures.speedups)
    assert result.failures == ()
    assert ProfileResult.model_validate(json.loads(result.model_dump_json())) == result
    progress = [e for e in heard if isinstance(e, Progress)]
    assert progress[-1].done == progress[-1].total == 6
    assert [e.done for e in progress] == sorted(e.done for e in progress)


def test_no_export_before_is_reported_with_a_remedy(make_env: Callable[..., Env]) -> None:
    network = Network("none")
    with pytest.raises(StageError, match=r"stages.profile.*put an export stage before it"):
        profile(Profile(), network, make_env(network))


def test_torch_in_a_process_of_its_own(
    tmp_path: Path, make_env: Callable[..., Env], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny_factory.py").write_text(
        "from torch import nn\ndef build(wide):\n return nn.Conv2d(3, wide, 3)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    network = Network.initial("tiny_factory:build", {"wide": 2}, 0, allow_code=True)
    dense = Network.initial("tiny_factory:build", {"wide": 8}, 0, allow_code=True)
    config = Profile(runtimes=("torch",), threads=(1,), processes=1, **QUICK)
    _, result = profile(config, network, make_env(network, dense=dense))
    assert [(c.artifact, c.runtime) for c in result.first.cells] == [(DENSE, "torch"), (MODEL, "torch")]
    assert [(s.artifact, s.against) for s in result.first.speedups] == [(MODEL, DENSE)]
    assert result.first.operators == ()


def test_ways_to_run_in_torch(
    tmp_path: Path, make_env: Callable[..., Env], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ways_factory.py").write_text(
        "from torch import nn\ndef build(wide):\n return nn.Conv2d(3, wide, 3)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    network = Network.initial("ways_factory:build", {"wide": 2}, 0, allow_code=True)
    ways = TorchWays(
        modes=("eager", "cuda_graph"),
        precisions=("fp32", "bf16"),
        layouts=("channels_first", "channels_last"),
    )
    env = make_env(network)
    config = Profile(runtimes=("torch",), threads=(1,), processes=1, batches=(1, 3), torch=ways, **QUICK)
    _, result = profile(config, network, env)
    on_cpu = ["torch", "torch channels last", "torch bf16", "torch channels last bf16"]
    assert [(c.runtime, c.batch) for c in result.first.cells] == [(n, b) for b in (1, 3) for n in on_cpu]
    assert {f.kind for f in result.failures} == {"missing"}  # no CUDA here
    assert isinstance(env.task, Sixteen) and env.task.seen == ["float32"]
    accuracies = {c.runtime: c.metrics for c in result.conversions}
    assert accuracies["torch bf16"]["map50"] == 0.5


@pytest.mark.slow
def test_compiled_torch(
    tmp_path: Path, make_env: Callable[..., Env], monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler, which torch.compile needs on the CPU")
    (tmp_path / "compiled_factory.py").write_text(
        "from torch import nn\ndef build(wide):\n return nn.Sequential(nn.Conv2d(3, wide, 3), nn.ReLU())\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    network = Network.initial("compiled_factory:build", {"wide": 2}, 0, allow_code=True)
    config = Profile(
        runtimes=("torch",), threads=(1,), processes=1, torch=TorchWays(modes=("compiled",)), **QUICK
    )
    _, result = profile(config, network, make_env(network))
    (cell,) = result.first.cells
    assert cell.runtime == "torch compiled"
    assert cell.first_ms is not None and cell.first_ms > 10 * cell.median_ms  # the first run compiles
