"""Typed events: what happened, as JSON lines that progress bars, logs and the report all read."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar

from edgec.core.files import storage_error


@dataclass(frozen=True)
class Event:
    """Base of all events. `time` is seconds since the epoch."""

    kind: ClassVar[str] = ""
    time: float = field(default_factory=time.time, kw_only=True)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class RunStarted(Event):
    kind: ClassVar[str] = "run_started"
    recipe: str
    command: str
    environment: Mapping[str, Any]


@dataclass(frozen=True)
class StageStarted(Event):
    kind: ClassVar[str] = "stage_started"
    stage: str
    key: str
    cached: bool
    reason: str = ""  # why the cache missed


@dataclass(frozen=True)
class StageEnded(Event):
    kind: ClassVar[str] = "stage_ended"
    stage: str
    seconds: float
    cached: bool
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Step(Event):
    """Progress of a training: emitted every few steps."""

    kind: ClassVar[str] = "step"
    stage: str
    step: int
    steps: int  # in the whole stage
    epoch: int
    epochs: int
    lr: float
    losses: Mapping[str, float]  # weighted terms and "total"
    seconds_left: float | None = None


@dataclass(frozen=True)
class EpochEnded(Event):
    kind: ClassVar[str] = "epoch_ended"
    stage: str
    epoch: int
    losses: Mapping[str, float]  # mean over the epoch
    metrics: Mapping[str, float]  # empty when not evaluated
    seconds: float


@dataclass(frozen=True)
class Note(Event):
    """A thing that a person should know: `level` is info, warning or error."""

    kind: ClassVar[str] = "note"
    level: str
    message: str
    stage: str = ""


@dataclass(frozen=True)
class Progress(Event):
    """Progress of work that is not a training: evaluating, calibrating, profiling."""

    kind: ClassVar[str] = "progress"
    what: str
    done: int
    total: int


@dataclass(frozen=True)
class RunEnded(Event):
    kind: ClassVar[str] = "run_ended"
    status: str  # done, gate broken, interrupted, failed


Listener = Callable[[Event], None]
Advance = Callable[[int, int], None]  # says how far work has come: (done, total)
LIVE_ONLY = (Progress,)  # not worth a line on disk


class Events:
    """Hands each event to its listeners and, when a file is given, appends it there as one JSON line."""

    def __init__(self, path: Path | None = None, listeners: tuple[Listener, ...] = ()) -> None:
        self._listeners = list(listeners)
        self._lock = threading.Lock()
        self._file: IO[str] | None = path.open("a", encoding="utf-8") if path else None

    def emit(self, event: Event) -> None:
        with self._lock:
            if self._file and not isinstance(event, LIVE_ONLY):
                self._write(self._file, json.dumps(event.to_json(), default=str) + "\n")
        for listener in self._listeners:
            listener(event)

    def _write(self, file: IO[str], line: str) -> None:
        """Raises StorageError, once: later events go to the listeners alone."""
        try:
            file.write(line)
            file.flush()
        except OSError as error:
            self._file = None
            with suppress(OSError):
                file.close()  # it tries to write once more
            raise storage_error(Path(file.name), error) from error

    def note(self, message: str, level: str = "info", stage: str = "") -> None:
        self.emit(Note(level, message, stage))

    def progress(self, what: str, stage: str = "") -> Advance:
        """A function to be called with (done, total), which emits a `Progress` event of `what`, named after its stage."""
        named = f"{stage}: {what}" if stage else what
        return lambda done, total: self.emit(Progress(named, done, total))

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None


def ignore_progress(done: int, total: int) -> None:
    """The `Advance` of work that nobody watches."""


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a file, in order; a torn last line (kill -9) is left out."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                continue
