"""The table of distillers, and what must say the same as it."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest
import torch

from edgec.distillers.catalog import DISTILLERS
from edgec.distillers.distiller import DistillationBatch, Observed
from edgec.recipe import ChannelWise, Distiller, FitNet, Logits, Pearson


def test_the_union_of_recipes_is_the_table() -> None:
    assert get_args(get_args(Distiller)[0]) == tuple(row.term for row in DISTILLERS.own)
    for row in DISTILLERS.own:
        assert get_args(row.term.model_fields["kind"].annotation) == (row.name,)


def test_the_table_is_read_without_torch() -> None:
    code = "import sys, edgec.distillers.catalog; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_several_teachers_count_alike() -> None:
    """One teacher, given twice, teaches what it teaches alone; two of them, the mean."""
    generator = torch.Generator().manual_seed(0)
    mine, one, two = (torch.rand(2, 4, 5, 5, generator=generator) for _ in range(3))
    row = DISTILLERS.row("pkd")

    def value(*teachers: torch.Tensor) -> float:
        seen = [Observed({}, [("tap", feature)]) for feature in teachers]
        batch = DistillationBatch(Observed({}, [("tap", mine)]), seen, lambda size: torch.ones(2, *size))
        return float(dict(row.terms(Pearson(kind="pkd"), batch))["tap"])

    assert value(one, one) == value(one)
    assert value(one, two) == pytest.approx((value(one) + value(two)) / 2)


def test_connectors_stand_where_channels_differ_and_hints_always_have_one() -> None:
    features = [("same", torch.zeros(1, 4, 2, 2)), ("other", torch.zeros(1, 3, 2, 2))]
    student = Observed({}, features)
    teacher = Observed({}, [(label, torch.zeros(1, 4, 2, 2)) for label, _ in features])

    def labels(name: str, term: object) -> list[str]:
        modules = DISTILLERS.row(name).modules
        return [] if modules is None else list(modules(term, student, teacher))

    assert labels("cwd", ChannelWise(kind="cwd")) == ["other"]
    assert labels("fitnet", FitNet(kind="fitnet")) == ["same", "other"]
    assert labels("logits", Logits(kind="logits")) == []
