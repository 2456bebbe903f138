"""The content-addressed, crash-safe cache of stage results.

    <root>/<key>/           key = sha256 of everything that the result depends on
        entry.json          sha256 of every file below, and the parts of the key
        network.json weights.safetensors metrics.json files/...
    <root>/work/<key>/      checkpoints of a stage that is under way
    <root>/last/<name>.json the parts of the last key of a stage, to say what changed

An entry appears whole, by one rename, and is verified before every use.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.core.errors import EdgecError, StorageError
from edgec.core.files import sha256_of, storage_error, sync_folder, write_atomic
from edgec.core.network import Network


@dataclass(frozen=True)
class Result:
    """What a stage made."""

    network: Network
    metrics: Mapping[str, Any]
    files: Path  # folder of the files that it wrote


def key_of(parts: Mapping[str, Any]) -> str:
    """The full sha256 of the parts that a result depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


class Store:
    """A folder of stage results."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(root, error) from error

    def get(self, key: str, allow_code: bool = False) -> Result | None:
        """The result of a key, verified; None when there is none. Raises StorageError when it is damaged."""
        folder = self.root / key
        if not (folder / "entry.json").is_file():
            return None
        try:
            entry = json.loads((folder / "entry.json").read_bytes())
            for name, expected in entry["files"].items():
                if sha256_of(folder / name) != expected:
                    raise StorageError(f"{folder / name}: damaged, its sha256 is not what was written")
            metrics = json.loads((folder / "metrics.json").read_bytes())
            return Result(Network.load(folder, allow_code), metrics, folder / "files")
        except (OSError, ValueError, KeyError) as error:
            raise StorageError(f"{folder}: damaged ({error})") from error

    def put(self, key: str, parts: Mapping[str, Any], result: Result) -> Result:
        """Store a result and give it back as stored."""
        try:
            staging = Path(tempfile.mkdtemp(dir=self.root, prefix=".staging-"))
            try:
                result.network.save(staging)
                write_atomic(
                    staging / "metrics.json", json.dumps(result.metrics, allow_nan=False, indent=1).encode()
                )
                if result.files.is_dir():
                    shutil.copytree(result.files, staging / "files")
                (staging / "files").mkdir(exist_ok=True)
                files = {
                    str(p.relative_to(staging)): sha256_of(p)
                    for p in sorted(staging.rglob("*"))
                    if p.is_file()
                }
                entry = {"parts": parts, "files": files}
                write_atomic(staging / "entry.json", json.dumps(entry, indent=1, default=str).encode())
                self.drop(key)
                staging.rename(self.root / key)
                sync_folder(self.root)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        except OSError as error:
            raise storage_error(self.root / key, error) from error
        shutil.rmtree(self.work(key), ignore_errors=True)
        stored = self.get(key, result.network.allow_code)
        if stored is None:
            raise StorageError(f"{self.root / key}: vanished while it was written")
        return stored

    def drop(self, key: str) -> None:
        """Forget a result."""
        shutil.rmtree(self.root / key, ignore_errors=True)

    def work(self, key: str) -> Path:
        """The folder in which a stage under way keeps its checkpoints."""
        return self.root / "work" / key

    def explain(self, name: str, parts: Mapping[str, Any]) -> str:
        """Why the key of this stage is not the last one, in words; then remember these parts."""
        path = self.root / "last" / f"{name}.json"
        try:
            before = json.loads(path.read_bytes())
        except (OSError, ValueError):
            before = None
        now = json.loads(json.dumps(parts, default=str))
        write_atomic(path, json.dumps(now).encode())
        if before is None:
            return "not run before"
        changed = [part for part in now if before.get(part) != now[part]]
        details: list[str] = []
        for part in changed:
            old, new = before.get(part), now[part]
            if isinstance(old, dict) and isinstance(new, dict):
                keys = [k for k in new if old.get(k) != new[k]]
                details.append(f"{part} ({', '.join(f'{k}: {old.get(k)} -> {new[k]}' for k in keys[:3])})")
            else:
                details.append(part)
        return "changed: " + "; ".join(details) if changed else "not finished before"


def damaged(error: EdgecError) -> str:
    """What to tell of a damaged entry that is made again."""
    return f"a cached result was damaged and is made again: {error}"
