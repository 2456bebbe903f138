"""Answers of measuring processes, checked where they come in."""

from __future__ import annotations

from typing import Any

import pytest

from edgec.core.errors import StageError
from edgec.devices.probe_answer import LatencyAnswer, read_answer


def test_an_answer_keeps_what_it_is_asked_for() -> None:
    answer = read_answer(
        LatencyAnswer, {"samples_ms": [1, 2.5], "inputs": {"x": [1, 3, 8, 9]}, "new": 1}, "a"
    )
    assert (answer.samples_ms, answer.sizes, answer.snr_db) == ((1.0, 2.5), ((8, 9),), None)


@pytest.mark.parametrize(
    ("answer", "place"), [({}, "samples_ms"), ({"samples_ms": []}, "samples_ms"), ({"samples_ms": [1, "x"]}, "samples_ms.1")]
)  # fmt: skip
def test_an_answer_of_another_program_is_refused_by_what_is_wrong(answer: dict[str, Any], place: str) -> None:
    with pytest.raises(StageError, match=f"a.onnx on board: .* no usable '{place}'"):
        read_answer(LatencyAnswer, answer, "a.onnx on board")
