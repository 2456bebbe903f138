"""Devices that are none."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import boards


@pytest.fixture
def board(tmp_path: Path) -> Iterator[boards.Board]:
    """A board behind ssh, or a skip where there is no OpenSSH server."""
    if boards.SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no OpenSSH server and client; install openssh-server")
    started = boards.start(tmp_path / "board")
    yield started
    started.stop()


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a phone behind a program that stands for adb."""
    home = boards.fake_adb(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return home
