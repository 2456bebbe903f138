"""The version of the code behind a result: the source files that it was made with, and the libraries that they import.

Followed are edgec's own modules and the user's: the module that a recipe names, and what it imports, however deep, outside
the standard library and site-packages. Comments and layout don't count. Of edgec's own libraries those count that hold
arithmetic; of the user's modules, all. What is imported by a name made at run time is not seen.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

# They hold no arithmetic: the config itself is part of a cache key, and so is the choice from a table.
NEUTRAL = frozenset(
    {
        "edgec",
        "edgec.core.errors",
        "edgec.core.events",
        "edgec.core.extensions",
        "edgec.core.files",
        "edgec.core.frozen",
        "edgec.core.table",
        "edgec.core.version",
        "edgec.distillers.catalog",
        "edgec.recipe",
    }
)
# A stage imports all modules of these packages and uses those that its recipe names: they count where they are asked for.
CHOSEN = ("edgec.distillers.",)
ARITHMETIC = frozenset(
    {"cv2", "numpy", "onnx", "onnxruntime", "onnxscript", "scipy", "skimage", "torch", "torch_pruning"}
)
IMPLIED = {"onnx": ("onnxscript", "onnx_ir")}  # torch exports with them


@dataclass
class Code:
    """What a set of modules stands on."""

    files: dict[str, Path] = field(default_factory=dict[str, Path])  # by module
    libraries: set[str] = field(default_factory=set[str])  # top-level modules
    named: set[str] = field(default_factory=set[str])  # those of them that the recipe names

    @property
    def digest(self) -> str:
        """sha256 over the syntax of all files."""
        digest = hashlib.sha256()
        for name in sorted(self.files):
            digest.update(name.encode() + b"\0" + _read(name, self.files[name])[0])
        return digest.hexdigest()

    def versions(self, *more: str) -> dict[str, str]:
        """The versions of the libraries, and of `more` distributions where they are installed, by distribution.

        A package that the recipe names may be worked on and installed again under one version: its list of files counts.
        """
        names = {name for library in self.libraries for name in _distributions().get(library, ())}
        versions = {name: found for name in sorted({*names, *more}) if (found := _version(name))}
        for name in {name for library in self.named for name in _distributions().get(library, ())}:
            record = distribution(name).read_text("RECORD") or ""
            versions[name] += " " + hashlib.sha256(record.encode()).hexdigest()[:12]
        return versions


def code_behind(modules: Iterable[str]) -> Code:
    """The files of `modules` and of what they import, however deep, and the libraries that they import."""
    code, todo = Code(), [(name, "") for name in modules]
    while todo:
        name, importer = todo.pop()
        if name in code.files or _neutral(name) or not _asked_for(name, importer):
            continue
        path = _path_of(name)
        if path is None:
            continue
        top = _top(name)
        if top == "edgec" or not _installed(path):
            code.files[name] = path
            todo += [(imported, name) for imported in _imports(name, path)]
            if top != "edgec":  # importing a module runs its packages, too
                todo += [(name[:index], name) for index, letter in enumerate(name) if letter == "."]
        elif top in ARITHMETIC or _top(importer) != "edgec":
            code.libraries |= {top, *IMPLIED.get(top, ())}
            code.named |= set() if importer else {top}
    return code


def code_version(modules: Iterable[str]) -> str:
    """sha256 over `modules` and what they import, however deep; comments and layout don't count."""
    return code_behind(modules).digest


def _top(name: str) -> str:
    return name.partition(".")[0]


def _neutral(name: str) -> bool:
    return name in NEUTRAL or name.startswith("edgec.recipe.") or _top(name) in sys.stdlib_module_names


def _asked_for(name: str, importer: str) -> bool:
    """Whether a module counts that `importer` imports; "" asks for it by name."""
    return (
        not importer
        or not name.startswith(CHOSEN)
        or (importer.startswith(CHOSEN) and not _neutral(importer))
    )


def _installed(path: Path) -> bool:
    """Whether a file belongs to a library: its version stands for it."""
    return not {"site-packages", "dist-packages"}.isdisjoint(path.parts)


def _path_of(name: str) -> Path | None:
    """The file of a module, without importing anything of the user's; None for built-in ones and for other names."""
    try:
        spec = find_spec(name) if _top(name) == "edgec" else _spec(name)
    except (ImportError, ValueError, AttributeError):  # what `from a import b` gives need be no module
        file = getattr(sys.modules.get(name), "__file__", None)  # "__main__" has no spec
        return Path(file) if file else None
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    return Path(spec.origin)


def _spec(name: str) -> ModuleSpec | None:
    """Like find_spec, which imports the packages that a module lies in; this does not."""
    parent, _, _ = name.rpartition(".")
    if not parent:
        return find_spec(name)
    package = _spec(parent)
    if package is None or package.submodule_search_locations is None:
        return None
    return PathFinder.find_spec(name, list(package.submodule_search_locations))


def _imports(name: str, path: Path) -> list[str]:
    """The modules that a file may import, at its top or inside functions, as absolute names."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: list[str] = []
    for level, module, names in _read(name, path)[1]:
        base = module
        if level:
            parts = package.split(".")
            base = ".".join([*parts[: len(parts) - level + 1], *([module] if module else [])])
        found += [base] if base else []
        found += [f"{base}.{each}" for each in names if each != "*"]
    return found


Import = tuple[int, str, tuple[str, ...]]  # dots before it, module, names taken from it


Parsed = tuple[bytes, tuple[Import, ...]]
_first_read: dict[
    Path, tuple[ModuleSpec | None, Parsed]
] = {}  # with the spec under which the module was imported


def _read(name: str, path: Path) -> Parsed:
    """A digest of a file's syntax tree, and its imports. Of a compiled module: of its bytes, and none.

    As it was when this process first asked, for that is the code which it runs, however the file is edited meanwhile; a
    module that was reloaded is read again.
    """
    spec: ModuleSpec | None = getattr(sys.modules.get(name), "__spec__", None)
    before = _first_read.get(path)
    parsed = before[1] if before and (before[0] is None or before[0] is spec) else _parsed(path)
    _first_read[path] = (spec, parsed)
    return parsed


def _parsed(path: Path) -> Parsed:
    if path.suffix != ".py":
        return hashlib.sha256(path.read_bytes()).digest(), ()
    tree = ast.parse(path.read_bytes())
    imports: list[Import] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
    return hashlib.sha256(ast.dump(tree).encode()).digest(), tuple(imports)


@cache
def _distributions() -> dict[str, list[str]]:
    return {name: list(found) for name, found in packages_distributions().items()}


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
