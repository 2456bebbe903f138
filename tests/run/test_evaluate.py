"""Accuracy outside a run: what may be given, and the user's own code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import edgec
from edgec.core.errors import NetworkError, RecipeError
from edgec.core.network import Network
from edgec.tasks.detection.signs import CLASSES

RECIPE = {
    "name": "tiny",
    "task": "detection",
    "data": {"format": "signs", "train": 2, "val": 2, "photograph_size": 96, "input": [64, 64]},
    "network": {"arch": "yolov4_tiny", "args": {"width": 0.125}},
    "stages": {"export": {}},
}


@pytest.fixture
def own_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a network whose architecture is the user's own."""
    (tmp_path / "own_arch_of_evaluate.py").write_text(
        "from edgec.core.architectures import resolve_arch\nnet = resolve_arch('yolov4_tiny', False)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    args = {"width": 0.25, "classes": len(CLASSES)}
    Network.initial("own_arch_of_evaluate:net", args, 0, allow_code=True).save(tmp_path / "network")
    sys.modules.pop("own_arch_of_evaluate", None)
    return tmp_path / "network"


def test_own_code_runs_when_it_is_allowed(own_network: Path) -> None:
    with pytest.raises(NetworkError, match="--allow-code"):
        edgec.evaluate(own_network, RECIPE, runtime="torch")
    accuracy = edgec.evaluate(own_network, RECIPE, runtime="torch", allow_code=True)["network"]
    assert accuracy.counts["images"] == 2 and 0 <= accuracy["map50"] <= 1


def test_a_split_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="--split: 'all'; choose from train, val, test"):
        edgec.evaluate(tmp_path, RECIPE, split="all")
