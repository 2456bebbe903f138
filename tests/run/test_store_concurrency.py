"""The store under several processes: nothing fails, nothing is lost, one makes a result and the others take it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgec.run.store import Store, key_of

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("sharing_worker.py")
pytestmark = pytest.mark.slow


def test_a_thousand_puts_and_gets_with_processes_killed_between_lose_nothing() -> None:
    command = [
        sys.executable,
        str(ROOT / "tools" / "bench_store.py"),
        "--operations",
        "1000",
        "--kills",
        "20",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    told = json.loads(done.stdout)["details"]
    assert told["errors"] == 0, told
    assert told["lost"] == 0 and told["kills"] == 20 and told["operations"] >= 1000


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def run(name: str, hold: bool = False, **variables: str) -> subprocess.Popen[bytes]:
        go = [str(tmp_path / "go")] if hold else []
        return subprocess.Popen(
            [sys.executable, str(WORKER), str(tmp_path / "store"), str(tmp_path / name), *go],
            env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
        )

    return run


def until(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("did not happen within a minute")


def told(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def heard(path: Path, text: str) -> bool:
    notes = path.with_suffix(".heard")
    return notes.exists() and text in notes.read_text(encoding="utf-8")


def test_the_second_run_waits_for_the_first_and_takes_its_result(tmp_path: Path, start: Start) -> None:
    checkpoint = Store(tmp_path / "store").work(key_of({"stage": 1})) / "scratch" / "checkpoint"
    first = start("first", hold=True)
    until(checkpoint.exists)
    second = start("second")
    until(lambda: heard(tmp_path / "second", "waiting for process"))
    (tmp_path / "go").touch()
    assert first.wait() == 0 and second.wait() == 0
    made, taken = told(tmp_path / "first"), told(tmp_path / "second")
    assert made["writer"] == made["me"] == taken["writer"] != taken["me"]
    assert len(taken["notes"]) == 1
    assert taken["notes"][0].startswith(f"waiting for process {made['me']} on ")
    assert taken["notes"][0].endswith("which is computing this result")
    assert not checkpoint.exists()


def test_a_killed_run_frees_its_result_and_the_next_one_resumes_it(tmp_path: Path, start: Start) -> None:
    checkpoint = Store(tmp_path / "store").work(key_of({"stage": 1})) / "scratch" / "checkpoint"
    first = start("first", hold=True)
    until(checkpoint.exists)
    second = start("second")
    until(lambda: heard(tmp_path / "second", "waiting for process"))
    first.send_signal(signal.SIGKILL)
    assert second.wait() == 0
    resumed = told(tmp_path / "second")
    assert resumed["resumed"] == str(first.pid) and resumed["writer"] == resumed["me"]
    first.wait()


def test_the_ranks_of_one_run_share_and_another_run_waits_for_them(tmp_path: Path, start: Start) -> None:
    checkpoint = Store(tmp_path / "store").work(key_of({"stage": 1})) / "scratch" / "checkpoint"

    def ranks(name: str, hold: bool = False) -> list[subprocess.Popen[bytes]]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        return [
            start(f"{name}-{rank}", hold, RANK=str(rank), LOCAL_RANK=str(rank), **world) for rank in range(2)
        ]

    first = ranks("first", hold=True)
    until(checkpoint.exists)
    second = ranks("second")
    until(lambda: heard(tmp_path / "second-0", "waiting for process"))
    (tmp_path / "go").touch()
    assert [process.wait() for process in (*first, *second)] == [0, 0, 0, 0]
    writers = {told(tmp_path / f"{run}-{rank}")["writer"] for run in ("first", "second") for rank in range(2)}
    assert writers == {first[0].pid}
