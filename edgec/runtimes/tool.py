"""Running a converter: a program of others, in a separate process, which is ended after a limit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgec.core.errors import Missing, StageError

LIMIT_SECONDS = 300.0
# No program that converts may install or send anything.
QUIET = {"PIP_NO_INDEX": "1", "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


def run_tool(
    command: Sequence[str], place: Path, what: str, extra: str, limit_s: float = LIMIT_SECONDS
) -> None:
    """Run a converter in `place`.

    Raises Missing where the program, or a module of it, is not installed; StageError, with its last words, when it fails
    or takes longer than the limit.
    """
    beside = str(Path(sys.executable).parent)  # programs of this environment, also when it is not activated
    places = os.pathsep.join([beside, os.environ.get("PATH", "")])
    program = shutil.which(command[0], path=places)
    if program is None:
        raise Missing(f"{what}: {command[0]} is not installed; pip install 'edgec[{extra}]'")
    environment = {**os.environ, **QUIET}
    try:
        done = subprocess.run(
            [program, *command[1:]], cwd=place, env=environment, capture_output=True, encoding="utf-8", errors="replace",
            timeout=limit_s, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise StageError(f"{what}: the converter took more than {limit_s:.0f} s and was ended") from None
    if done.returncode != 0:
        if "ModuleNotFoundError" in done.stderr:
            raise Missing(f"{what}: {done.stderr.strip().splitlines()[-1]}; pip install 'edgec[{extra}]'")
        tail = " | ".join((done.stdout + done.stderr).strip().splitlines()[-3:]) or "no message"
        how = f"status {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise StageError(f"{what}: the converter ended with {how}: {tail}")


def run_python(code: str, arguments: Sequence[str], place: Path, what: str, extra: str) -> None:
    """`run_tool` for a few lines of Python."""
    run_tool([sys.executable, "-P", "-c", code, *arguments], place, what, extra)
