"""The export stage: what is written, what is measured of it, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from edgec.core.errors import StageError
from edgec.core.events import Events
from edgec.core.network import Network
from edgec.env import Env
from edgec.onnx.session import OnnxSession
from edgec.recipe import Export, Quantize
from edgec.runtimes.artifact import KEY, predictor
from edgec.stages.export import export
from edgec.stages.quantize import quantize


@pytest.fixture(scope="module")
def quantized(
    detector: Network, nearness: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Network:
    """The detector calibrated, with one layer kept in float."""
    folder = tmp_path_factory.mktemp("quantized")
    env = Env(nearness(), "quantize", Events(), detector, folder, folder)
    settings = {"images": 4, "sensitivity_images": 1, "max_drop": 0.9, "keep_float": ["head16"]}
    return quantize(Quantize.model_validate(settings), detector, env)[0]


@pytest.fixture(scope="module")
def whole(
    quantized: Network, nearness: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Env, dict[str, Any]]:
    """All precisions and the network before, with a test split: (env, metrics)."""
    folder = tmp_path_factory.mktemp("export")
    task = nearness(named=("train", "val", "test"))
    dense = replace(quantized, surgeries=())
    env = Env(task, "export", Events(), dense, folder, folder / "out")
    network, result = export(Export(), quantized, env)
    metrics = result.model_dump(mode="json")
    assert network is quantized
    return env, metrics


NAMES = ("dense.fp32", "model.fp32", "model.fp16", "model.int8")


def test_every_artifact_has_contract_and_golden_file(whole: Any) -> None:
    env, metrics = whole
    assert tuple(metrics["artifacts"]) == NAMES
    files = sorted(str(p.relative_to(env.out)) for p in env.out.rglob("*") if p.is_file())
    expected = [f"{n}.onnx" for n in NAMES] + [f"{n}.contract.json" for n in NAMES]
    assert files == sorted(expected + [f"golden/{n}.npz" for n in NAMES])
    for name, entry in metrics["artifacts"].items():
        assert entry["file"] == f"{name}.onnx"
        assert entry["bytes"] == (env.out / entry["file"]).stat().st_size
        assert entry["precision"] == name.split(".")[1]
        assert entry["params"] == env.dense.parameters
    assert json.loads(json.dumps(metrics)) == metrics


def test_contract_says_what_the_graph_gives(whole: Any) -> None:
    env, _ = whole
    for name in NAMES:
        model = onnx.load(env.out / f"{name}.onnx")
        inside = json.loads({p.key: p.value for p in model.metadata_props}[KEY])
        assert inside == json.loads((env.out / f"{name}.contract.json").read_text())
        assert inside["outputs"] == [o.name for o in model.graph.output] == ["head0", "head1"]
        assert (inside["output"], inside["precision"]) == ("raw", name.split(".")[1])
        assert inside["dynamic_batch"] is False
        onnx.checker.check_model(model, full_check=True)


def test_golden_outputs_are_reproduced(whole: Any) -> None:
    env, _ = whole
    for name in NAMES:
        golden = np.load(env.out / "golden" / f"{name}.npz", allow_pickle=False)
        assert set(golden.files) == {"images", "head0", "head1"}
        np.testing.assert_array_equal(golden["images"], env.task.images("val", 1))
        session = OnnxSession(env.out / f"{name}.onnx")
        for output, value in zip(("head0", "head1"), session.run({"images": golden["images"]}), strict=True):
            np.testing.assert_array_equal(value, golden[output])


def test_figures_are_those_of_the_files(whole: Any) -> None:
    env, metrics = whole
    found = metrics["artifacts"]
    for name, entry in found.items():
        model = predictor(env.out / f"{name}.onnx")
        for split in ("val", "test"):
            assert entry[split] == env.task.evaluate(model, split).flat()
        assert entry["drop_from_torch"] == pytest.approx(entry["torch"]["val"] - entry["val"]["map50"])
        assert "train" not in entry
    assert metrics["final"] == found["model.int8"]["val"]
    assert abs(found["model.fp32"]["drop_from_torch"]) < 1e-3
    assert found["model.fp32"]["snr_db"] > 90 > found["model.fp16"]["snr_db"] > 45
    assert 20 < found["model.int8"]["snr_db"] < found["model.fp16"]["snr_db"]
    assert found["model.fp32"]["max_abs_error"] < 1e-3
    sizes = [found[f"model.{p}"]["bytes"] for p in ("int8", "fp16", "fp32")]
    assert sizes == sorted(sizes)
    assert sizes[0] < 0.4 * sizes[2]


def test_int8_entry_tells_what_runs_in_integers(whole: Any) -> None:
    _, metrics = whole
    entry = metrics["artifacts"]["model.int8"]
    assert entry["float_layers"] == ["head16"]
    assert (entry["fusion"]["integer"], entry["fusion"]["wanted"]) == (23, 23)
    assert [left["layer"] for left in entry["fusion"]["left_float"]] == ["head16"]


def test_int8_without_calibration_is_refused_before_any_work(
    detector: Network, nearness: Callable[..., Any], given: Callable[..., Any]
) -> None:
    env = given(nearness(), "ship", detector).env
    with pytest.raises(StageError, match=r"stages\.ship: int8 needs a quantize stage"):
        export(Export(), detector, env)
    assert not list(env.out.iterdir())


def test_the_dense_network_is_not_written_twice(
    detector: Network, nearness: Callable[..., Any], given: Callable[..., Any]
) -> None:
    env = given(nearness(), "export", detector).env
    _, result = export(Export(precisions=("fp32",), dynamic_batch=True), detector, env)
    metrics = result.model_dump(mode="json")
    assert list(metrics["artifacts"]) == ["model.fp32"]
    model = predictor(env.out / "model.fp32.onnx")
    assert model.contract.dynamic_batch is True
    assert model.run(env.task.images("val", 3))[0].shape[0] == 3
    session = OnnxSession(env.out / "model.fp32.onnx")
    assert session.inputs["images"][0] is None


def test_a_tuned_network_keeps_its_calibration(
    quantized: Network, nearness: Callable[..., Any], given: Callable[..., Any]
) -> None:
    net = quantized.build()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= 1.001
    tuned = quantized.with_weights(net)
    env = given(nearness(tuned), "export", tuned).env
    _, result = export(Export(precisions=("int8",), opset=21), tuned, env)
    metrics = result.model_dump(mode="json")
    assert metrics["artifacts"]["model.int8"]["snr_db"] > 15


def test_calibration_of_another_graph_is_refused(
    quantized: Network, nearness: Callable[..., Any], given: Callable[..., Any]
) -> None:
    surgery = quantized.surgery("quantize")
    assert surgery is not None
    known: Any = surgery.changes["ranges"]
    ranges = {k: v for k, v in known.items() if k != "images"}
    other = replace(quantized, surgeries=(replace(surgery, changes={**surgery.changes, "ranges": ranges}),))
    env = given(nearness(), "export", other).env
    with pytest.raises(StageError, match=r"no calibrated range for images.*run the quantize stage again"):
        export(Export(precisions=("int8",), dense=False), other, env)


def test_two_exports_are_the_same_files(
    whole: Any, quantized: Network, nearness: Callable[..., Any], given: Callable[..., Any]
) -> None:
    first, _ = whole
    env = given(nearness(), "export", first.dense).env
    export(Export(dense=False), quantized, env)
    for name in NAMES[1:]:
        for file in (f"{name}.onnx", f"{name}.contract.json"):
            assert (env.out / file).read_bytes() == (first.out / file).read_bytes()


def test_tiles_are_for_tasks_whose_images_have_any_size(
    detector: Network, nearness: Callable[..., Any], given: Callable[..., Any]
) -> None:
    env = given(nearness(), "export", detector).env
    with pytest.raises(StageError, match=r"stages\.export\.tile \[32, 32\].*remove it"):
        export(Export(precisions=("fp32",), tile=(32, 32)), detector, env)


@pytest.fixture
def four_bits(
    detector: Network, nearness: Callable[..., Any], given: Callable[..., Any]
) -> Callable[..., Any]:
    """The detector after a quantize stage with settings, and the env of an export after it."""

    def go(**settings: Any) -> Any:
        env = given(nearness(), "ship", detector).env
        config = {"images": 4, "batch": 2, "sensitivity_images": 1, "max_drop": 1, **settings}
        return quantize(Quantize.model_validate(config), detector, env)[0], env

    return go


def test_a_codebook_is_the_int8_artifact_in_half_the_bytes(four_bits: Callable[..., Any]) -> None:
    network, env = four_bits(weight_bits=4)
    _, result = export(Export(precisions=("int8", "codebook"), dense=False), network, env)
    metrics = result.model_dump(mode="json")
    whole, small = (metrics["artifacts"][f"model.{p}"] for p in ("int8", "codebook"))
    assert small["bytes"] < 0.56 * whole["bytes"]
    assert small["fusion"] == whole["fusion"]
    assert small["fusion"]["integer"] == small["fusion"]["wanted"] == 24
    assert small["val"] == whole["val"] == metrics["final"]
    assert onnx.load(env.out / "model.codebook.onnx").opset_import[0].version >= 21


def test_precisions_that_cannot_be_had_are_refused_before_any_work(four_bits: Callable[..., Any]) -> None:
    network, env = four_bits()
    with pytest.raises(StageError, match=r"stages\.ship: a codebook needs weights of 4 bits or fewer"):
        export(Export(precisions=("codebook",)), network, env)
    network, env = four_bits(activation_bits=4)
    with pytest.raises(StageError, match=r"onnxruntime has no convolution for activations of 4 bits"):
        export(Export(precisions=("int8",)), network, env)
    assert not list(env.out.iterdir())


@pytest.mark.parametrize(("bits", "values"), [(6, 63), (3, 8), (2, 4)])
def test_fewer_bits_are_fewer_values(four_bits: Callable[..., Any], bits: int, values: int) -> None:
    network, env = four_bits(weight_bits=bits)
    export(Export(precisions=("int8",), dense=False), network, env)
    graph = onnx.load(env.out / "model.int8.onnx").graph
    stored = [numpy_helper.to_array(i) for i in graph.initializer if i.data_type == onnx.TensorProto.INT8]
    assert max(len(np.unique(w)) for w in stored) == values
