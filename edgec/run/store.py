"""The content-addressed cache of stage results, safe against crashes and shared by any number of processes.

    <root>/v2/<key>/          key = sha256 of everything that the result depends on
        entry.json            sha256 of every file below, and the parts of the key
        network.json weights.safetensors metrics.json files/...
    <root>/v2/locks/<key>.lock  held by the process that makes or replaces the result; the system frees it with the process
    <root>/v2/work/<key>/     checkpoints of a stage under way; belongs to whoever holds the lock, so a killed one is resumed
    <root>/v2/staging/<key>/  an entry being written, likewise
    <root>/v2/last/<name>.json  the parts of the last key of a stage, to say what changed

An entry appears whole, by one rename, and is verified before every use. The first writer wins: a good entry is never
replaced, unless the caller asks for it. Reading takes no lock, so it also works where nothing can be written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from filelock import FileLock, Timeout
from pydantic import JsonValue

from edgec.core.errors import NetworkError, StorageError
from edgec.core.files import sha256_of, storage_error, sync_folder, write_atomic
from edgec.core.network import Network

LAYOUT = "v2"  # raised whenever this or an older edgec could not read what the other wrote
POLL_SECONDS = 0.2
REMEDY = "set EDGEC_STORE to a folder that can be written"
READ_ONLY = "results there are read, but no new one can be made"


@dataclass(frozen=True)
class Result:
    """What a stage made."""

    network: Network
    metrics: Mapping[str, JsonValue]
    files: Path  # folder of the files that it wrote


class Damaged(StorageError):
    """An entry of the store is not what was written, and nobody is replacing it."""


def key_of(parts: Mapping[str, JsonValue]) -> str:
    """The full sha256 of the parts that a result depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


class Store:
    """A folder of stage results. Nothing is written before `begin`, `making`, `put` or `remember`."""

    def __init__(self, root: Path) -> None:
        self.place = root
        self.root = root / LAYOUT
        self._locks: dict[str, FileLock] = {}

    def begin(self) -> str:
        """Make the folder; in words what a person should know of it, or nothing.

        Said are results of another edgec, once, by whoever makes the folder; and that nothing can be written, each time.
        """
        try:
            self.root.mkdir(parents=True)
        except FileExistsError:
            if os.access(self.root, os.W_OK):
                return ""
            return f"{self.root}: cannot be written; {REMEDY}; {READ_ONLY}"
        except OSError as error:
            return f"{storage_error(self.root, error, REMEDY)}; {READ_ONLY}"
        if any(_is_entry(path) for path in self.place.iterdir()):
            return (
                f"{self.place}: results of another version of edgec are not used; "
                f"delete all but {LAYOUT}/ there to free their space"
            )
        return ""

    def get(self, key: str, allow_code: bool = False) -> Result | None:
        """The verified result of a key. None when there is none, or when another process is making it right now.

        Raises Damaged when a file is not what was written, StorageError when one cannot be read.
        """
        try:
            return self._read(key, allow_code)
        except Damaged:
            # Perhaps it was being replaced. Only under the lock is damage a fact.
            lock = self._lock(key)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                return None
            except OSError:  # nothing can be written here, so nobody replaces it
                return self._read(key, allow_code)
            try:
                return self._read(key, allow_code)
            finally:
                lock.release()

    @contextmanager
    def making(self, key: str, waiting: Callable[[str], None] | None = None) -> Generator[None, None, None]:
        """Be the one process that makes this result.

        While another one does, wait, after one call of `waiting` with its name. Raises StorageError where nothing can
        be written.
        """
        lock = self._lock(key)
        holder = self.root / "locks" / f"{key}.holder"
        with self._writing(key):
            holder.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                if waiting is not None:
                    waiting(_text(holder) or "another process")
                lock.acquire(poll_interval=POLL_SECONDS)
        try:
            with self._writing(key):
                holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
            yield
        finally:
            lock.release()

    def put(self, key: str, parts: Mapping[str, JsonValue], result: Result, replace: bool = False) -> Result:
        """Store a result and give it back as stored. A good entry that already exists stays, unless `replace`.

        Waits while another process makes the same result. Raises StorageError when it cannot be written: nothing is lost
        then, neither an entry nor the checkpoints of the stage.
        """
        allow_code = result.network.allow_code
        with self.making(key):
            stored = None if replace else self._good(key, allow_code)
            if stored is None:
                with self._writing(key):
                    self._write(key, parts, result)
                stored = self._read(key, allow_code)
            if stored is None:
                raise StorageError(
                    f"{self.root / key}: vanished while it was written; run the same command again"
                )
            shutil.rmtree(self.work(key), ignore_errors=True)
        return stored

    def work(self, key: str) -> Path:
        """The folder in which a stage under way keeps its checkpoints; for the process that is `making` the result."""
        return self.root / "work" / key

    def why(self, name: str, parts: Mapping[str, JsonValue]) -> str:
        """Why the key of this stage is not the last one that was remembered, in words."""
        try:
            before = cast(object, json.loads((self.root / "last" / f"{name}.json").read_bytes()))
        except (OSError, ValueError):
            before = None
        if not isinstance(before, dict):
            return "not run before"
        return _difference(cast(dict[str, JsonValue], before), json.loads(json.dumps(parts, default=str)))

    def remember(self, name: str, parts: Mapping[str, JsonValue]) -> None:
        """Keep the parts of a stage's key, so that `why` can say the next time what changed."""
        write_atomic(self.root / "last" / f"{name}.json", json.dumps(parts, default=str).encode())

    def _lock(self, key: str) -> FileLock:
        """The lock of a key. The same object each time: whoever holds it may take it again."""
        if key not in self._locks:
            self._locks[key] = FileLock(self.root / "locks" / f"{key}.lock")
        return self._locks[key]

    @contextmanager
    def _writing(self, key: str) -> Generator[None, None, None]:
        try:
            yield
        except OSError as error:
            raise storage_error(self.root / key, error, REMEDY) from error

    def _good(self, key: str, allow_code: bool) -> Result | None:
        try:
            return self._read(key, allow_code)
        except Damaged:
            return None

    def _read(self, key: str, allow_code: bool) -> Result | None:
        """The result of a key. Raises Damaged with the name of every file that is not what was written."""
        folder = self.root / key
        if not folder.is_dir():
            return None
        try:
            files = _files_of(folder / "entry.json")
            wrong = [name for name, expected in files.items() if not _same(folder / name, expected)]
            if wrong:
                raise Damaged(f"{folder}: damaged, not what was written: {', '.join(wrong)}")
            metrics = json.loads((folder / "metrics.json").read_bytes())
            return Result(Network.load(folder, allow_code), metrics, folder / "files")
        except Damaged:
            raise
        except (FileNotFoundError, NotADirectoryError, ValueError, StorageError, NetworkError) as error:
            raise Damaged(f"{folder}: damaged ({error})") from error
        except OSError as error:  # a disk or a permission, which says nothing of the entry
            raise StorageError(f"{folder}: cannot be read ({error}); nothing was changed there") from error

    def _write(self, key: str, parts: Mapping[str, JsonValue], result: Result) -> None:
        """Write an entry beside its place and move it there. The caller holds the lock."""
        staging = self.root / "staging" / key
        old = staging.with_name(f"{key}.old")
        target = self.root / key
        for folder in (staging, old):  # of one that was killed
            shutil.rmtree(folder, ignore_errors=True)
        try:
            (staging / "files").mkdir(parents=True)
            result.network.save(staging)
            write_atomic(
                staging / "metrics.json", json.dumps(result.metrics, allow_nan=False, indent=1).encode()
            )
            if result.files.is_dir():
                shutil.copytree(result.files, staging / "files", dirs_exist_ok=True)
            files = {
                path.relative_to(staging).as_posix(): sha256_of(path)
                for path in sorted(staging.rglob("*"))
                if path.is_file()
            }
            entry: dict[str, JsonValue] = {
                "parts": json.loads(json.dumps(parts, default=str)),
                "files": {**files},
            }
            write_atomic(
                staging / "entry.json", json.dumps(entry | {"itself": _digest(entry)}, indent=1).encode()
            )
            if target.exists():
                target.rename(old)
            staging.rename(target)
            sync_folder(self.root)
        finally:
            for folder in (staging, old):
                shutil.rmtree(folder, ignore_errors=True)


def _is_entry(path: Path) -> bool:
    """Whether a folder is a result, or the store of another layout."""
    return (re.fullmatch(r"v\d+", path.name) is not None and path.name != LAYOUT) or (
        path / "entry.json"
    ).is_file()


def _files_of(place: Path) -> dict[str, str]:
    """sha256 by name of the files of an entry. Raises Damaged when the list itself is not what was written."""
    try:
        entry = cast(dict[str, JsonValue], json.loads(place.read_bytes()))
        whole = entry.pop("itself") == _digest(entry)
    except (FileNotFoundError, ValueError, AttributeError, KeyError, TypeError):
        whole, entry = False, {}
    if not whole:
        raise Damaged(f"{place.parent}: damaged, not what was written: {place.name}")
    return cast("dict[str, str]", entry["files"])


def _digest(entry: Mapping[str, JsonValue]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()


def _same(path: Path, expected: str) -> bool:
    try:
        return sha256_of(path) == expected
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8").strip()
    return ""


def _difference(before: Mapping[str, JsonValue], now: Mapping[str, JsonValue]) -> str:
    """What of a key changed, in words."""
    details: list[str] = []
    for part in now:
        old, new = before.get(part), now[part]
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            was, became = cast(dict[str, JsonValue], old), cast(dict[str, JsonValue], new)
            keys = [key for key in became if was.get(key) != became[key]]
            changes = ", ".join(f"{key}: {was.get(key)} -> {became[key]}" for key in keys[:3])
            details.append(f"{part} ({changes})")
        else:
            details.append(part)
    return "changed: " + "; ".join(details) if details else "not finished before"
