"""What trainings hand back: stored under the keys of old, flagged where steps were skipped, drawn as curves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgec.core.metric import Metric
from edgec.core.results.table import Histograms, Lines
from edgec.core.results.training import DistillResult, Epoch, SparsifyResult, TrainResult
from edgec.recipe.stage_results import result_of_json

METRICS = (Metric("map50", "mAP 50", share=True), Metric("map", "mAP", share=True))
TRAINED: dict[str, Any] = {
    "curves": [
        {"epoch": 0, "losses": {"box": 0.5, "class": 0.25, "total": 0.75}, "metrics": {}},
        {"epoch": 1, "losses": {"box": 0.25, "class": 0.5, "total": 0.75}, "metrics": {"map50": 0.5, "map": 0.25}},
        {
            "epoch": 2,
            "losses": {"box": 0.125, "class": 0.25, "total": 0.375},
            "metrics": {"map50": 0.75, "map": 0.5, "images": 4, "objects": 9, "ap50/stop": 0.75},
        },
    ],
    "final": {"map50": 0.75, "map": 0.5, "images": 4, "objects": 9, "ap50/stop": 0.75},
    "train_seconds": 12.34,
    "images_per_second": 5.67,
    "skipped_steps": 0,
    "rollbacks": 0,
}  # fmt: skip
GAMMA = {
    "signal": "filter_norms", "edges": [0.0, 0.5, 1.0], "before": [1, 3], "after": [3, 1],
    "near_zero_before": 0.0, "near_zero_after": 0.25,
}  # fmt: skip


def read(kind: str, stored: dict[str, Any]) -> Any:
    return result_of_json(kind, stored)


@pytest.mark.parametrize(
    ("kind", "more"),
    [("train", {}), ("sparsify", {"gamma": GAMMA}), ("distill", {"teacher": "1ef156"})],
)
def test_json_comes_back_as_it_was(kind: str, more: dict[str, Any]) -> None:
    stored = TRAINED | more
    assert json.loads(read(kind, stored).model_dump_json()) == stored


def test_a_training_that_evaluated_nothing_has_an_empty_accuracy() -> None:
    stored = TRAINED | {"final": {}, "curves": TRAINED["curves"][:1]}
    result = read("train", stored)
    assert isinstance(result, TrainResult) and result.final is not None and result.final.get("map50") is None
    assert json.loads(result.model_dump_json()) == stored


def test_a_loss_that_is_not_a_number_is_stored_as_nothing() -> None:
    epoch = Epoch(epoch=0, losses={"box": float("nan"), "total": 1.0})
    assert epoch.model_dump(mode="json")["losses"] == {"box": None, "total": 1.0}


def test_skipped_steps_are_flagged() -> None:
    assert list(read("train", TRAINED).flags(METRICS[0], None)) == []
    skipped = read("distill", TRAINED | {"teacher": "1", "skipped_steps": 5, "rollbacks": 1})
    assert isinstance(skipped, DistillResult)
    assert list(skipped.flags(METRICS[0], None)) == ["5 steps skipped, 1 rollbacks"]


def test_curves_count_epochs_from_one_and_leave_out_what_was_not_evaluated() -> None:
    (section,) = read("train", TRAINED).sections(METRICS)
    losses, accuracy = section.charts
    assert isinstance(losses, Lines) and isinstance(accuracy, Lines)
    assert losses.series == {
        "class": [(1, 0.25), (2, 0.5), (3, 0.25)],  # the largest term at the end stands first
        "box": [(1, 0.5), (2, 0.25), (3, 0.125)],
    }
    assert accuracy.title == "mAP 50 and mAP on the validation split"
    assert accuracy.series == {"mAP 50": [(2, 0.5), (3, 0.75)], "mAP": [(2, 0.25), (3, 0.5)]}


def test_one_evaluation_is_not_a_curve() -> None:
    (section,) = read("train", TRAINED | {"curves": TRAINED["curves"][:2]}).sections(METRICS)
    assert [chart.title for chart in section.charts] == ["loss terms"]


def test_sparse_training_shows_the_channels_before_and_after() -> None:
    result = read("sparsify", TRAINED | {"gamma": GAMMA})
    assert isinstance(result, SparsifyResult)
    (chart,) = result.sections(METRICS)[0].charts
    assert isinstance(chart, Histograms)
    assert chart.counts == {"before": (1, 3), "after": (3, 1)} and chart.edges == (0.0, 0.5, 1.0)
    assert chart.note == "0.0 % of the norms were below 0.01 before, 25.0 % after."
