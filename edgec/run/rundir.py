"""A run's folder: its lock, its recipe, its events, its manifest."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from edgec.core.errors import Problem, RecipeError
from edgec.core.files import sha256_of, storage_error, write_atomic
from edgec.recipe import Recipe

MANIFEST = "manifest.json"


class RunDir:
    """One folder with everything that one `compress` made, held by one process at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / ".lock").open("a+")
        except OSError as error:
            raise storage_error(folder, error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "another process"
            self._lock.close()
            message = f"another run works in this folder (process {holder})"
            raise RecipeError([Problem(str(folder), message, "wait for it, or give another --run")]) from None
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    @classmethod
    def choose(cls, recipe: Recipe, folder: Path | None) -> RunDir:
        """The folder asked for, or the unfinished one of the same recipe, or the next free number under runs/."""
        if folder is not None:
            if folder.exists() and not folder.is_dir():
                raise RecipeError([Problem(str(folder), "is a file", "give a folder with --run")])
            cls._refuse_others(folder, recipe)
            return cls(folder)
        runs = Path("runs")
        number = 1
        while (runs / f"{recipe.name}-{number}").exists():
            number += 1
        last = runs / f"{recipe.name}-{number - 1}"
        if number > 1 and not (last / MANIFEST).exists() and cls._recipe_text(last) == dump(recipe):
            return cls(last)
        return cls(runs / f"{recipe.name}-{number}")

    @classmethod
    def _refuse_others(cls, folder: Path, recipe: Recipe) -> None:
        """A run replaces what an earlier run of its recipe left in a folder, and nothing else."""
        if not folder.exists() or not any(folder.iterdir()):
            return
        text = cls._recipe_text(folder)
        if not text and not (folder / ".lock").exists():
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

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Write manifest.json: what was promised and kept, and the sha256 of every file."""
        files = {
            str(path.relative_to(self.folder)): sha256_of(path)
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.name not in (MANIFEST, ".lock", "events.jsonl")
        }
        text = json.dumps({**manifest, "files": files}, indent=1, default=str)
        write_atomic(self.folder / MANIFEST, text.encode())

    def close(self) -> None:
        self._lock.close()


def dump(recipe: Recipe) -> str:
    """A recipe as YAML that `recipe.load` reads to the same recipe."""
    tree = recipe.model_dump(mode="json", exclude_defaults=False)
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
