"""A recipe small enough to run whole in a test, in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgec.testing import tiny_recipe


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEC_STORE", raising=False)


@pytest.fixture
def tiny() -> dict[str, Any]:
    """Every stage, on a handful of drawn images."""
    return tiny_recipe()
