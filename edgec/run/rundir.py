"""A run's folder: its lock, its recipe, its events, its manifest."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import yaml
from filelock import FileLock, Timeout
from pydantic import JsonValue

from edgec.core.errors import Problem, RecipeError
from edgec.core.files import sha256_of, storage_error, write_atomic
from edgec.recipe import Recipe

MANIFEST = "manifest.json"
LOCK, HOLDER = ".lock", ".holder"
UNHASHED = (MANIFEST, LOCK, HOLDER)  # the manifest cannot hold its own sha256; the others say who works here


class InUse(RecipeError):
    """Another process works in a run's folder."""


class RunDir:
    """One folder with everything that one `compress` made, held by one process at a time."""

    def __init__(self, folder: Path) -> None:
        """Take a folder. Raises InUse, and StorageError when it cannot be written."""
        self.folder = folder
        self._lock = FileLock(folder / LOCK)
        self._manifest: Mapping[str, JsonValue] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
            (folder / HOLDER).write_text(str(os.getpid()), encoding="utf-8")
        except Timeout:
            message = f"another run works in this folder (process {_holder(folder)})"
            raise InUse([Problem(str(folder), message, "wait for it, or give another --run")]) from None
        except OSError as error:
            raise storage_error(folder, error) from error

    @classmethod
    def choose(cls, recipe: Recipe, folder: Path | None) -> RunDir:
        """The folder asked for, or an unfinished one of the same recipe in which nobody works, or the next number under runs/.

        Raises InUse when another run works in the folder asked for.
        """
        if folder is not None:
            if folder.exists() and not folder.is_dir():
                raise RecipeError([Problem(str(folder), "is a file", "give a folder with --run")])
            cls._refuse_others(folder, recipe)
            return cls(folder)
        runs = Path("runs")
        number = 1
        while (runs / f"{recipe.name}-{number}").exists():
            number += 1
        return cls._unfinished(recipe, runs, number - 1) or cls._new(recipe, runs, number)

    @classmethod
    def _unfinished(cls, recipe: Recipe, runs: Path, last: int) -> RunDir | None:
        """The last run, when it is an unfinished one of the same recipe; one in which a process works is passed over."""
        for number in range(last, 0, -1):
            folder = runs / f"{recipe.name}-{number}"
            if (folder / MANIFEST).exists() or cls._recipe_text(folder) != dump(recipe):
                return None
            try:
                run = cls(folder)
            except InUse:
                continue
            if not (folder / MANIFEST).exists():
                return run
            run.close()  # it was finished in this moment
            return None
        return None

    @classmethod
    def _new(cls, recipe: Recipe, runs: Path, number: int) -> RunDir:
        """A folder that this process makes: two runs that start at once get two numbers."""
        while True:
            folder = runs / f"{recipe.name}-{number}"
            try:
                folder.mkdir(parents=True)
                return cls(folder)
            except (FileExistsError, InUse):
                number += 1
            except OSError as error:
                raise storage_error(folder, error) from error

    @classmethod
    def _refuse_others(cls, folder: Path, recipe: Recipe) -> None:
        """A run replaces what an earlier run of its recipe left in a folder, and nothing else."""
        if not folder.exists() or not any(folder.iterdir()):
            return
        text = cls._recipe_text(folder)
        if not text and not (folder / LOCK).exists():
            message = "is not empty, and not a run's folder: its artifacts/ and stages/ would be replaced"
        elif text and f"name: {recipe.name}" != text.splitlines()[0]:
            message = f"holds a run of another recipe ({text.splitlines()[0]})"
        else:
            return
        raise RecipeError([Problem(str(folder), message, "give a new folder with --run")])

    @staticmethod
    def _recipe_text(folder: Path) -> str:
        try:
            return (folder / "recipe.yaml").read_text(encoding="utf-8")
        except OSError:
            return ""

    def begin(self, recipe: Recipe) -> None:
        """Write the resolved recipe, and forget what an earlier run left here."""
        for name in ("artifacts", "rejected", "stages"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / MANIFEST).unlink(missing_ok=True)
        write_atomic(self.folder / "recipe.yaml", dump(recipe).encode())

    def finish(self, manifest: Mapping[str, JsonValue]) -> None:
        """The run is done: `manifest` says what was promised and kept. `close` writes it, after the last event."""
        self._manifest = manifest

    def close(self) -> None:
        """Write manifest.json, if the run is done, with the sha256 of each file but those UNHASHED; give the folder back."""
        try:
            if self._manifest is not None:
                files = {
                    path.relative_to(self.folder).as_posix(): sha256_of(path)
                    for path in sorted(self.folder.rglob("*"))
                    if path.is_file() and path.relative_to(self.folder).as_posix() not in UNHASHED
                }
                text = json.dumps({**self._manifest, "files": files}, indent=1, default=str)
                write_atomic(self.folder / MANIFEST, text.encode())
                self._manifest = None
        finally:
            with suppress(OSError):
                (self.folder / HOLDER).unlink()
            self._lock.release()


def _holder(folder: Path) -> str:
    try:
        return (folder / HOLDER).read_text(encoding="utf-8") or "unknown"
    except OSError:
        return "unknown"


def dump(recipe: Recipe) -> str:
    """A recipe as YAML that `recipe.load` reads to the same recipe."""
    tree = recipe.model_dump(mode="json", exclude_defaults=False)
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
