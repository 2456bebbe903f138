"""Artifacts on disk: the contract inside and beside, predictors, and damaged files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgec.core.contract.detection import DetectionContract, DetectionInput, Head
from edgec.core.errors import RecipeError, StageError
from edgec.onnx.export import to_onnx
from edgec.onnx.session import OnnxSession
from edgec.runtimes.artifact import KEY, contract_of, open_artifact, predictor, write_artifact

CONTRACT = DetectionContract(
    input=DetectionInput(name="images", shape=(1, 3, 32, 32), scale=1 / 255, fit="letterbox", pad_value=114),
    classes=("straße",),
    heads=(Head(((8.0, 8.0),), 1, 1.0, 1),),
)


def model_of(dynamic: bool) -> onnx.ModelProto:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)).eval()
    return to_onnx(net, torch.zeros(1, 3, 32, 32), ["out"], dynamic_batch=dynamic)


@pytest.fixture(scope="module")
def models() -> dict[bool, onnx.ModelProto]:
    """By whether the batch size is free."""
    return {dynamic: model_of(dynamic) for dynamic in (False, True)}


@pytest.fixture
def artifact(models: dict[bool, onnx.ModelProto], tmp_path: Path) -> Path:
    path = tmp_path / "model.fp32.onnx"
    write_artifact(path, models[False], CONTRACT)
    return path


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, 3, 32, 32), dtype=np.float32)


def test_contract_stands_inside_and_beside(artifact: Path) -> None:
    assert contract_of(OnnxSession(artifact), "here") == CONTRACT
    assert json.loads((artifact.parent / "model.fp32.contract.json").read_text()) == CONTRACT.to_json()
    model = onnx.load(artifact)
    assert [p.key for p in model.metadata_props] == [KEY]
    onnx.checker.check_model(model, full_check=True)
    assert sorted(p.name for p in artifact.parent.iterdir()) == [
        "model.fp32.contract.json",
        "model.fp32.onnx",
    ]


def test_writing_twice_gives_the_same_bytes(artifact: Path, models: dict[bool, onnx.ModelProto]) -> None:
    before = artifact.read_bytes()
    write_artifact(artifact, models[False], CONTRACT)
    assert artifact.read_bytes() == before


def test_predictor_serves_any_batch_from_a_fixed_one(
    artifact: Path, models: dict[bool, onnx.ModelProto], tmp_path: Path
) -> None:
    free = tmp_path / "free.onnx"
    write_artifact(free, models[True], CONTRACT)
    one, many = predictor(artifact), predictor(free)
    assert (one.batch, many.batch) == (None, None)
    assert one.contract == CONTRACT
    for count in (1, 3):
        a, b = one.run(images(count))[0], many.run(images(count))[0]
        assert a.shape == (count, 4, 32, 32)
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_predictor_with_a_fixed_batch_of_more_insists(
    models: dict[bool, onnx.ModelProto], tmp_path: Path
) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(models[True])
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    path = tmp_path / "four.onnx"
    write_artifact(path, model, CONTRACT)
    four = predictor(path)
    assert four.batch == 4
    assert four.run(images(4))[0].shape == (4, 4, 32, 32)
    with pytest.raises(StageError, match=r"four\.onnx: takes batches of 4, 3 images"):
        four.run(images(3))


@pytest.mark.parametrize("left", [0, 10, 0.5, 0.99])
def test_truncated_file_is_refused_by_name(artifact: Path, left: float) -> None:
    data = artifact.read_bytes()
    artifact.write_bytes(data[: int(left * len(data)) if left < 1 else int(left)])
    with pytest.raises(StageError, match=r"model\.fp32\.onnx: .*export it again"):
        predictor(artifact)


def test_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"absent\.onnx: does not exist"):
        predictor(tmp_path / "absent.onnx")


def test_foreign_onnx_has_no_contract(models: dict[bool, onnx.ModelProto], tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(models[False])
    del model.metadata_props[:]
    path = tmp_path / "foreign.onnx"
    onnx.save(model, path)
    with pytest.raises(StageError, match=r"foreign\.onnx: carries no contract"):
        predictor(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            json.dumps(CONTRACT.to_json() | {"version": 2}),
            "its contract is of version 2, this edgec reads up to 1",
        ),
        (json.dumps(CONTRACT.to_json() | {"classes": 3}), "its contract has classes: 3"),
        ("{", "its contract is not valid JSON"),
    ],
)
def test_a_contract_that_cannot_be_read_is_refused_with_the_files_name(
    artifact: Path, text: str, said: str
) -> None:
    model = onnx.load(artifact)
    model.metadata_props[0].value = text
    onnx.save(model, artifact)
    with pytest.raises(RecipeError) as raised:
        predictor(artifact)
    assert f"{artifact}: {said}" in str(raised.value)


def test_external_data_outside_the_folder_is_refused(
    models: dict[bool, onnx.ModelProto], tmp_path: Path
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    model = onnx.ModelProto()
    model.CopyFrom(models[False])
    onnx.save(model, inside / "a.onnx", save_as_external_data=True, location="a.bin", size_threshold=0)
    (inside / "a.bin").rename(tmp_path / "a.bin")
    model = onnx.load(inside / "a.onnx", load_external_data=False)
    for item in model.graph.initializer:
        for entry in item.external_data:
            if entry.key == "location":
                entry.value = "../a.bin"
    (inside / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(StageError, match=r"a\.onnx: onnxruntime cannot open it"):
        OnnxSession(inside / "a.onnx")


def test_wrong_shape_and_missing_input_say_what_is_wanted(artifact: Path) -> None:
    session = OnnxSession(artifact)
    with pytest.raises(StageError, match="1 x 3 x 16 x 32, the artifact takes 1 x 3 x 32 x 32"):
        session.run({"images": np.zeros((1, 3, 16, 32), np.float32)})
    with pytest.raises(StageError, match="3 x 32 x 32, the artifact takes"):
        session.run({"images": np.zeros((3, 32, 32), np.float32)})
    with pytest.raises(StageError, match="input 'images' is missing"):
        session.run({"pictures": images(1)})


def test_threads_do_not_change_the_outputs(artifact: Path) -> None:
    one, two = (OnnxSession(artifact, threads).run({"images": images(1)})[0] for threads in (1, 2))
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_optimized_graph_can_be_saved(artifact: Path, tmp_path: Path) -> None:
    OnnxSession(artifact, optimized_path=tmp_path / "optimized.onnx")
    assert onnx.load(tmp_path / "optimized.onnx").graph.node


def test_runtimes_by_name(artifact: Path) -> None:
    assert open_artifact(artifact).inputs["images"] == (1, 3, 32, 32)
    with pytest.raises(RecipeError, match="'tensorrt' is unknown; choose from onnxruntime, torch, openvino"):
        open_artifact(artifact, runtime="tensorrt")
    with pytest.raises(RecipeError, match="'openvino' opens no artifacts here; choose from onnxruntime"):
        open_artifact(artifact, runtime="openvino")


def test_wrong_type_and_unknown_input_are_reported(artifact: Path) -> None:
    session = OnnxSession(artifact)
    with pytest.raises(StageError, match="'images' float64"):
        session.run({"images": images(1).astype(np.float64)})
    with pytest.raises(StageError, match="'more' float32"):
        session.run({"images": images(1), "more": images(1)})
