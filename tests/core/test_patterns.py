"""Patterns that name no layer are told, all at once, with names that are near."""

from __future__ import annotations

import pytest

from edgec.core.errors import StageError
from edgec.core.patterns import check_patterns, matches

NAMES = ["", "stem", "body", "body.0", "body.1"]


def test_patterns_name_whole_layers() -> None:
    assert matches("body.0", ["stem", "body.*"]) and matches("stem", ["stem"])
    assert not matches("stem.1", ["stem"]) and not matches("stem", [])


def test_patterns_that_name_layers_pass() -> None:
    check_patterns({"prune.ignore": ["stem", "body.*", "*"], "prune.groups.neck": []}, NAMES)


def test_all_that_match_none_are_reported_with_near_names() -> None:
    with pytest.raises(StageError) as caught:
        check_patterns({"prune.ignore": ["stem", "steem"], "prune.groups.neck": ["?"]}, NAMES, "convolution")
    assert str(caught.value).splitlines() == [
        "prune.ignore: 'steem' matches no convolution; did you mean stem?",
        "prune.groups.neck: '?' matches no convolution; there are stem, body, body.0, body.1, ...",
    ]
