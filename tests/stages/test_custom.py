"""A stage of the user's own: what it may return, and what is said of anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgec.core.errors import RecipeError, StageError
from edgec.core.events import Events
from edgec.core.network import Network
from edgec.core.results.other import CustomResult, InputResult
from edgec.env import Env
from edgec.recipe import Custom
from edgec.stages.custom import custom

NETWORK = Network("none")
CONFIG = Custom(kind="custom", function="mine:stage")


def applied(returned: Any, monkeypatch: pytest.MonkeyPatch, allow_code: bool = True) -> Any:
    monkeypatch.setattr(
        "edgec.stages.custom.resolve_dotted", lambda name: lambda config, network, env: returned
    )
    env = Env(None, "mine", Events(), NETWORK, Path(), Path(), allow_code=allow_code)  # type: ignore[arg-type]
    return custom(CONFIG, NETWORK, env)


def test_metrics_may_be_any_mapping_with_an_accuracy_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    network, result = applied((NETWORK, {"seen": 3, "final": {"map50": 0.5}}), monkeypatch)
    assert network is NETWORK and isinstance(result, CustomResult)
    assert result.metrics["seen"] == 3 and result.final is not None and result.final["map50"] == 0.5
    assert applied((NETWORK, {}), monkeypatch)[1].final is None


def test_a_typed_result_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(applied((NETWORK, InputResult()), monkeypatch)[1], InputResult)


@pytest.mark.parametrize(
    "returned",
    [None, NETWORK, (NETWORK,), ("x", {}), (NETWORK, None), (NETWORK, {"a": object()}), (NETWORK, {"final": "good"})],
)  # fmt: skip
def test_anything_else_is_an_error_that_names_the_stage(
    returned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        StageError, match=r"stages\.mine\.function 'mine:stage' must return \(network, metrics\)"
    ):
        applied(returned, monkeypatch)


def test_without_leave_it_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match="your own code; pass --allow-code"):
        applied((NETWORK, {}), monkeypatch, allow_code=False)
