"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgec.core.extensions import added
from edgec.core.runtimes import RuntimeSpec


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data and weights, or a skip when it is not there."""
    root = Path(os.environ.get("EDGEC_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")).resolve()
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set EDGEC_DATA")
    return root


@pytest.fixture(autouse=True)
def own_leases(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests do not wait for measurements that run on this machine."""
    monkeypatch.setenv("EDGEC_LEASES", str(tmp_path_factory.getbasetemp()))


@pytest.fixture
def null_runtime() -> Iterator[str]:
    """The name of a runtime that computes nothing, which edgec.probe knows, and recipes only here."""
    with added("edgec.runtimes", "null", RuntimeSpec("null")):
        yield "null"
