"""Every kind of stage has its result, and what is not known is a stage of the user's own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from edgec.core.results.other import CustomResult, InputResult
from edgec.core.results.stage import Cost, StageRecord
from edgec.recipe.stage_results import record_of_json, result_of_json, result_type
from edgec.recipe.stages import STAGES


def test_every_stage_of_a_recipe_has_a_result_that_names_it() -> None:
    assert {name: result_type(name).kind for name in STAGES.names()} == {
        name: name for name in STAGES.names()
    }
    assert result_type("input") is InputResult
    assert result_type("of a package that is gone") is CustomResult


@pytest.mark.parametrize("final", [{}, {"map50": 0.5, "images": 4, "ap50/stop": 0.25}])
def test_what_went_in_comes_back_as_it_was(final: dict[str, Any]) -> None:
    result = result_of_json("input", {"final": final})
    assert isinstance(result, InputResult)
    assert json.loads(result.model_dump_json()) == {"final": final}


@pytest.mark.parametrize(
    "stored",
    [
        {"seen": 3, "parts": {"a": [1, 2.5]}, "final": {"map50": 0.5}},
        {"seen": None},
        {"metrics": {"a": 1}},
        {"final": {}},
        {},
    ],
)
def test_the_metrics_of_ones_own_stage_come_back_as_they_were(stored: dict[str, Any]) -> None:
    result = result_of_json("custom", stored)
    assert isinstance(result, CustomResult)
    assert json.loads(result.model_dump_json()) == stored
    assert (result.final is None) == ("final" not in stored)


def test_a_result_refuses_keys_that_it_does_not_know() -> None:
    with pytest.raises(ValidationError):
        result_of_json("input", {"final": {}, "finale": 1})


def test_a_record_stands_beside_its_result_in_json() -> None:
    record = StageRecord("mine", "input", InputResult(), True, 1.25, Cost(params=1, macs=2, padded_macs=3))
    assert record.to_json() == {
        "kind": "input",
        "cached": True,
        "final": {},
        "seconds": 1.25,
        "cost": {"params": 1, "macs": 2, "padded_macs": 3},
    }
    assert record_of_json("mine", record.to_json()) == record
    assert StageRecord("mine", "input", InputResult()).to_json() == {
        "kind": "input",
        "cached": False,
        "final": {},
    }
