"""The user's boards: `devices.yaml` in the current folder, or the file that $EDGEC_DEVICES names.

pi5:
  address: ssh://pi@raspberrypi.local
  python: /home/pi/venv/bin/python        # with numpy and onnxruntime; default: python3
phone:
  address: adb://R58M123ABC
  benchmarks: {ncnn: /data/local/tmp/benchncnn, litert: /data/local/tmp/benchmark_model}
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, RootModel, ValidationError

from edgec.core.errors import EdgecError, Missing, Problem, ProblemsError, RecipeError
from edgec.core.frozen import json_object
from edgec.devices.adb import Adb
from edgec.devices.device import SAFE, Device
from edgec.devices.local import Local
from edgec.devices.programs import Benchmark
from edgec.devices.remote import Remote, Transport
from edgec.devices.ssh import Ssh
from edgec.recipe.yaml_source import RecipeSource, parse, problems_of

Benchmarked = Literal["onnxruntime", "ncnn", "mnn", "litert"]


class Board(BaseModel):
    """One entry of the device file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str  # ssh://user@host[:port] or adb://serial
    python: str | None = None  # default: python3, or none where there are benchmarks
    ssh_config: Path | None = None  # a file of OpenSSH's, instead of ~/.ssh/config
    benchmarks: dict[Benchmarked, str] = {}  # the benchmark program of a runtime, by its path there


class Boards(RootModel[dict[str, Board]]):
    pass


def device_file() -> Path:
    return Path(os.environ.get("EDGEC_DEVICES", "devices.yaml"))


def boards() -> dict[str, Board]:
    """The entries of the device file; none without one. Raises RecipeError with all that is wrong, by line."""
    path = device_file()
    if not path.is_file():
        if "EDGEC_DEVICES" in os.environ:
            raise RecipeError([Problem("EDGEC_DEVICES", f"{path} does not exist", "check the path")])
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            [Problem(str(path), f"cannot be read ({error})", "save it as UTF-8 text")]
        ) from error
    if not text.strip():
        return {}
    source = parse((text, str(path), path.resolve().parent))
    try:
        found = Boards.model_validate(source.tree).root
    except ValidationError as error:
        raise RecipeError(_problems(error, source)) from None
    problems: list[Problem] = []
    for name, board in found.items():
        for key, value in (("python", board.python), *board.benchmarks.items()):
            if value is not None and (not SAFE.fullmatch(value) or value.startswith("-")):
                at = (name, key) if key == "python" else (name, "benchmarks", key)
                problems.append(
                    Problem(
                        source.place(at),
                        f"{value!r} contains characters that a shell would interpret",
                        "use a plain path",
                    )
                )
        try:
            _transport(board, source.folder)
        except RecipeError as error:
            problems += [
                Problem(source.place((name, "address")), f"{p.place} {p.message}", p.remedy)
                for p in error.problems
            ]
        if name == "local" or "://" in name:
            problems.append(
                Problem(source.place((name,)), f"{name!r} is not a valid name for a board", "take another")
            )
    if problems:
        raise RecipeError(problems)
    return found


def _problems(error: ValidationError, source: RecipeSource) -> list[Problem]:
    """By board, so that keys are looked for among a board's own."""
    problems: list[Problem] = []
    for name, board in source.tree.items():
        try:
            Board.model_validate(board)
        except ValidationError as inner:
            below = RecipeSource(
                json_object(board) or {},
                {path[1:]: line for path, line in source.lines.items() if path[:1] == (name,)},
                source.name, source.folder,
            )  # fmt: skip
            problems += [
                Problem(p.place if name in p.place else f"{p.place} of {name}", p.message, p.remedy)
                for p in problems_of(inner, below, Board)
            ]
    return problems or [Problem(source.name, str(error), "see the documentation of devices.yaml")]


def open_devices(names: Sequence[str]) -> list[Device]:
    """Devices by name or address; nothing is connected yet. Raises RecipeError naming all that are unknown."""
    known = boards() if any(name != "local" and "://" not in name for name in names) else {}
    problems: list[Problem] = []
    devices: list[Device] = []
    for name in dict.fromkeys(names):
        try:
            devices.append(_open(name, known))
        except ProblemsError as error:
            problems += error.problems
    if problems:
        for device in devices:
            device.close()
        raise RecipeError(problems)
    return devices


def reach(names: Sequence[str]) -> None:
    """Ask every device what it is, so that an hour of training does not end at one that is off.

    Raises RecipeError for unknown names, Missing with all that do not answer.
    """
    silent: list[str] = []
    for device in open_devices([name for name in names if name != "local"]):
        try:
            device.environment()
        except EdgecError as error:
            silent.append(str(error))
        finally:
            device.close()
    if silent:
        raise Missing("\n".join(silent))


def _open(name: str, known: dict[str, Board]) -> Device:
    if name == "local":
        return Local()
    board = Board(address=name) if "://" in name else known.get(name)
    if board is None:
        close = difflib.get_close_matches(name, ["local", *known], 1)
        remedy = f"did you mean {close[0]}?" if close else (
            f"{device_file()} has {', '.join(known)}" if known else f"write it into {device_file()}, or give ssh://user@host"
        )  # fmt: skip
        raise RecipeError([Problem(f"device {name!r}", "is unknown", remedy)])
    benchmarks = [Benchmark(runtime, program) for runtime, program in board.benchmarks.items()]
    python = board.python or (None if benchmarks else "python3")
    return Remote(name, _transport(board, device_file().resolve().parent), python, benchmarks)


def _transport(board: Board, folder: Path | None) -> Transport:
    if board.address.startswith("ssh://"):
        config = board.ssh_config
        if config is not None:
            config = (folder or Path.cwd()) / config.expanduser()
            if not config.is_file():
                raise RecipeError([Problem(f"ssh_config {config}", "does not exist", "check the path")])
        return Ssh(board.address, config)
    if board.address.startswith("adb://"):
        return Adb(board.address)
    raise RecipeError(
        [
            Problem(
                f"device {board.address!r}",
                "is not an address",
                "write local, ssh://user@host[:port] or adb://serial",
            )
        ]
    )
