"""Patterns that name no layer are told, all at once, with names that are near."""

from __future__ import annotations

import pytest
from torch import nn

from edgec.errors import StageError
from edgec.pruning.patterns import check_patterns


def net() -> nn.Module:
    return nn.ModuleDict({"stem": nn.Conv2d(3, 4, 3), "body": nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())})


def test_patterns_that_name_layers_pass() -> None:
    check_patterns("prune.ignore", ["stem", "body.*", "*"], net())
    check_patterns("prune.ignore", [], net())


def test_all_that_name_none_are_told_with_near_names() -> None:
    with pytest.raises(StageError) as caught:
        check_patterns("stages.decompose.ignore", ["stem", "steem", "head.*"], net())
    text = str(caught.value)
    assert text.startswith("stages.decompose.ignore: 'steem', 'head.*' names no layer")
    assert "stem" in text.split("there are")[1]
