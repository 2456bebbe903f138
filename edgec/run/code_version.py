"""The version of the code behind a result: a hash of the source files that it was made with."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# They hold no arithmetic: the config itself is part of a cache key.
NEUTRAL = frozenset(
    {
        "edgec",
        "edgec.core.errors",
        "edgec.core.events",
        "edgec.recipe",
        "edgec.recipe.yaml_source",
        "edgec.core.files",
        "edgec.env",
    }
)


def code_version(modules: Iterable[str]) -> str:
    """sha256 over `modules` and every edgec module that they import, however deep; comments and layout don't count."""
    seen: dict[str, Path] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        if name in seen or name in NEUTRAL:
            continue
        path = _path_of(name)
        if path is None:
            continue
        seen[name] = path
        todo.extend(_imports(path))
    digest = hashlib.sha256()
    for name in sorted(seen):
        digest.update(name.encode() + b"\0" + _meaning(seen[name]))
    return digest.hexdigest()


@cache
def _path_of(name: str) -> Path | None:
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None


@cache
def _meaning(path: Path) -> bytes:
    """A digest of a file's syntax tree."""
    return hashlib.sha256(ast.dump(ast.parse(path.read_text(encoding="utf-8"))).encode()).digest()


@cache
def _imports(path: Path) -> tuple[str, ...]:
    """The edgec modules that a file imports, at its top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(sorted(n for n in names if n.split(".")[0] == "edgec"))
