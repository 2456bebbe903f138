"""`--dry-run`: what can be said of each stage before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgec.core.errors import StageError
from edgec.run.plan import plan


@pytest.fixture(autouse=True)
def empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEC_STORE", str(tmp_path / "store"))


def planned(**stages: Any) -> list[str]:
    data = {"format": "signs", "train": 2, "val": 2, "input": [64, 64], "photograph_size": 64}
    network = {"arch": "yolov4_tiny", "args": {"width": 0.25}}
    tree = {"name": "t", "task": "detection", "data": data, "network": network, "stages": stages}
    return list(plan(tree, allow_code=True))


def test_decomposing_names_the_layers_and_the_least_that_can_be_asked() -> None:
    lines = planned(decompose={"keep_macs": 0.9})
    start = lines.index("stage    decompose: decompose, to do")
    assert "16 convolutions can be decomposed: backbone.down1.conv" in lines[start + 1]
    assert "M MACs are allowed; the least keep_macs is 0." in lines[start + 2]


def test_a_cost_that_decomposing_cannot_reach_is_an_error() -> None:
    with pytest.raises(
        StageError, match=r"stages\.cut: keep_macs 0\.01 cannot be reached, 0\.\d+ is the least"
    ):
        planned(cut={"kind": "decompose", "keep_macs": 0.01})


def test_behind_a_pruning_that_has_not_run_the_least_is_of_the_network_as_it_is() -> None:
    lines = planned(prune={"ratio": 0.5}, decompose={"keep_macs": 0.01})
    assert lines[-1].endswith(", as the network is now")


def test_a_stage_of_ones_own_is_named_by_its_function() -> None:
    assert "stage    mine: custom json:dumps, to do" in planned(
        mine={"kind": "custom", "function": "json:dumps"}
    )
