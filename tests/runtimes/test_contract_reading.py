"""Contracts from the JSON inside artifacts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgec.core.contract.base import Contract, Input
from edgec.core.contract.detection import DetectionContract
from edgec.core.contract.superres import SuperresContract
from edgec.core.errors import EdgecError, ExtensionError, RecipeError
from edgec.core.extensions import added
from edgec.recipe.tasks import TaskSpec
from edgec.runtimes.contract_reading import contract_of_json, contract_type

DETECTOR: dict[str, Any] = {  # as artifacts carried it before contracts had a version
    "task": "detection",
    "input": {
        "name": "images", "shape": [1, 3, 256, 256], "layout": "NCHW", "color": "RGB", "scale": 0.00392156862745098,
        "fit": "letterbox", "pad_value": 114,
    },
    "output": "raw",
    "multiple": 32,
    "classes": ["stop", "yield"],
    "heads": [{"anchors": [[41.8, 48.9], [58.7, 67.6]], "stride": 32, "scale_xy": 1.05, "classes": 2}],
    "outputs": ["head0"],
    "precision": "int8",
    "dynamic_batch": False,
    "dynamic_size": False,
}  # fmt: skip
UPSCALER: dict[str, Any] = {
    "task": "superres",
    "input": {"name": "images", "shape": [1, 3, 48, 64], "layout": "NCHW", "color": "RGB", "scale": 1.0},
    "output": "raw",
    "outputs": ["image"],
    "dynamic_size": True,
    "scale": 2,
    "enlarged": False,
    "factor": 2,
    "multiple": 1,
    "radius": 11,
    "precision": "fp16",
    "dynamic_batch": False,
}


def read(tree: Any) -> Contract:
    return contract_of_json(json.dumps(tree), "model.onnx")


def message(tree: Any) -> str:
    with pytest.raises(RecipeError) as raised:
        read(tree)
    assert raised.value.exit_code == 2
    return str(raised.value)


@pytest.mark.parametrize(("tree", "kind"), [(DETECTOR, DetectionContract), (UPSCALER, SuperresContract)])
def test_contracts_without_a_version_are_read_and_keep_their_keys(
    tree: dict[str, Any], kind: type[Contract]
) -> None:
    contract = read(tree)
    assert type(contract) is kind
    assert contract.to_json() == tree | {"version": 1}
    assert read(contract.to_json()) == contract


def test_a_score_threshold_is_written_only_where_there_is_one() -> None:
    boxes = DETECTOR | {
        "output": "boxes",
        "outputs": ["boxes", "scores", "labels", "image"],
        "score_threshold": 0.25,
    }
    assert read(boxes).to_json() == boxes | {"version": 1}
    assert "score_threshold" not in read(DETECTOR).to_json()


def test_the_range_of_an_input_follows_its_scale() -> None:
    assert read(DETECTOR).input.range == (0.0, 1.0)
    assert read(UPSCALER).input.range == (0.0, 255.0)
    assert Input(name="x", shape=(1, 4)).range is None


def test_sizes_are_free_in_multiples_or_fixed() -> None:
    contract = read(DETECTOR)
    assert (contract.size_multiple, contract.changed(dynamic_size=True).size_multiple) == (None, 32)


def test_a_newer_version_is_refused_with_what_to_do() -> None:
    said = message(DETECTOR | {"version": 2})
    assert said == (
        "model.onnx: its contract is of version 2, this edgec reads up to 1; use a newer edgec, or export the network with "
        "this one"
    )


def test_a_newer_version_is_reported_even_where_its_keys_are_unknown() -> None:
    assert "version 7" in message({"version": 7, "task": "detection", "shape": "new"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"heads": None}, "heads: None"),
        ({"classes": []}, "classes: []"),
        ({"input": DETECTOR["input"] | {"scale": -1}}, "input.scale: -1"),
        ({"input": DETECTOR["input"] | {"scale": "much"}}, "input.scale: much"),
        (
            {"input": DETECTOR["input"] | {"fit": "crop"}},
            "input.fit: crop (input should be 'letterbox' or 'stretch')",
        ),
        ({"input": DETECTOR["input"] | {"pad_value": 256}}, "input.pad_value: 256"),
        ({"input": DETECTOR["input"] | {"shape": [1, 3, 256]}}, "input.shape"),
        ({"output": "masks"}, "output: masks"),
        ({"colour": 1}, "colour: 1"),
        ({"version": 0}, "version: 0"),
        ({"version": "one"}, "version: one"),
        ({"task": 3}, "its contract has the task 3"),
    ],
)
def test_a_damaged_contract_names_key_value_and_remedy(change: dict[str, Any], said: str) -> None:
    told = message(DETECTOR | change)
    assert told.startswith("model.onnx: its contract")
    assert said.lower() in told.lower()
    assert "export the network again" in told


@pytest.mark.parametrize("key", ["input", "classes", "heads"])
def test_a_missing_key_is_named(key: str) -> None:
    assert f"its contract has no {key};" in message({k: v for k, v in DETECTOR.items() if k != key})


def test_all_problems_are_reported_at_once() -> None:
    said = message({"task": "superres", "scale": 0, "enlarged": "perhaps"})
    for key in ("input", "factor", "radius", "scale: 0", "enlarged: perhaps"):
        assert key in said


def test_a_long_value_is_cut() -> None:
    assert len(message(DETECTOR | {"output": "x" * 3000})) < 300


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", "null"])
def test_text_that_is_not_an_object_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"^model\.onnx: its contract is .*export the network again"):
        contract_of_json(text, "model.onnx")


def test_an_unknown_task_is_refused_by_name() -> None:
    said = message({"task": "depth"})
    assert "model.onnx: is an artifact for the task 'depth', which is unknown" in said
    assert "install the package" in said and "known: detection" in said and "superres" in said


class DepthContract(Contract, frozen=True):
    metres: float


DEPTH = TaskSpec("depth", "mine:depth_of", DepthContract)


def test_a_package_brings_the_contract_of_its_task() -> None:
    with added("edgec.tasks", "depth", DEPTH):
        contract = read({"task": "depth", "input": {"name": "x", "shape": [1, 3, 8, 8]}, "metres": 2.5})
    assert isinstance(contract, DepthContract) and contract.metres == 2.5


def test_a_package_whose_task_is_no_row_is_named() -> None:
    with (
        added("edgec.tasks", "depth", object()),
        pytest.raises(
            ExtensionError, match="task 'depth' of an installed package is a object, not a TaskSpec"
        ),
    ):
        contract_type("depth", "model.onnx")


@pytest.mark.parametrize(
    ("tree", "wanted", "said"),
    [
        (
            UPSCALER,
            DetectionContract,
            "is an artifact for superres, not for detection; use it with `edgec upscale`",
        ),
        (
            DETECTOR,
            SuperresContract,
            "is an artifact for detection, not for superres; use it with `edgec detect`",
        ),
    ],
)
def test_an_artifact_of_another_task_names_its_command(
    tree: dict[str, Any], wanted: type[Contract], said: str
) -> None:
    with pytest.raises(EdgecError) as raised:
        wanted.of(read(tree), "model.onnx")
    assert raised.value.exit_code == 2
    assert said in str(raised.value)
    assert type(read(tree)).of(read(tree), "model.onnx") == read(tree)
