"""The row of a stage."""

from __future__ import annotations

import pytest

from edgec.core.frozen import Frozen
from edgec.core.stage_spec import StageConfig, StageSpec


class Plain(Frozen):
    kind: str = "plain"


def test_a_config_that_the_run_cannot_ask_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="stage 'plain': its config Plain must derive from StageConfig"):
        StageSpec("plain", Plain, "mine:plain")  # type: ignore[arg-type]


def test_most_stages_have_no_teacher_and_need_no_device() -> None:
    config = StageConfig()
    assert config.teacher_source() is None and config.measured_on() == ()
    assert (config.modules(), config.libraries(), config.details()) == ((), (), "")
