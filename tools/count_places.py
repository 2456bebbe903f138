"""Counts what can be counted of the house: `python tools/count_places.py [CHECKOUT] [--strict]` prints a table and a JSON line.

Runs on any checkout, also an old one: it reads its files, and asks grimp about its imports. `--strict` runs pyright too.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

# the words by which a thing of each set is known, where code or docs would spell them to name it
EXAMPLES = {
    "distiller": ("Pearson", "pearson", "pkd"),
    "runtime": ("litert", "ai_edge_litert", "ai-edge-litert"),
    "task": ("superres", "SuperResolution", "ImagesBase"),
    "stage": ("decompose", "Decompose"),
    "data format": ("CocoData", "coco"),
}
# files that are the thing itself
OWN = {
    "distiller": r"pkd",
    "runtime": r"litert",
    "task": r"superres|tiles/",
    "stage": r"decompose|pruning/spatial_svd",
    "data format": r"coco",
}
WORD = r"(?<![A-Za-z0-9_]){}(?![A-Za-z0-9])"
LOOSE = re.compile(r"^(dict|Dict|Mapping|MutableMapping)\[str, (Any|object)\]$")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--strict", action="store_true", help="count pyright's strict errors, too (minutes)")
    given = parser.parse_args()
    root: Path = given.checkout.resolve()
    figures = counts(root)
    if given.strict:
        figures["pyright strict errors"] = strict_errors(root)
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:{width}}  {value}")
    print(json.dumps(figures))


def counts(root: Path) -> dict[str, int]:
    """All figures that need no type checker, by name."""
    files = sorted((root / "edgec").rglob("*.py"))
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}
    top = [p for p in (root / "edgec").glob("*.py") if p.name not in ("__init__.py", "__main__.py")]
    figures = {
        "files at the top of edgec/": len(top),
        "files": len(files),
        "lines": sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files),
        "modules outside import rules": outside_rules(root),
        "modules in import circles": circles(root),
        "signatures with dict[str, Any]": sum(map(loose_signatures, trees.values())),
        "string keys in three or more files": shared_keys(trees),
    }
    for kind, words in EXAMPLES.items():
        touched = places(root, words, OWN[kind])
        figures[f"files to touch for a new {kind}"] = len(touched)
        figures[f"lines that name it, {kind}"] = sum(touched.values())
    return figures


def loose_signatures(tree: ast.Module) -> int:
    """Functions that take or give a dict from strings to anything."""
    found = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            hints = [node.returns, *(argument.annotation for argument in arguments)]
            found += any(is_loose(part) for hint in hints if hint for part in ast.walk(hint))
    return found


def is_loose(node: ast.AST) -> bool:
    return isinstance(node, ast.Subscript) and bool(LOOSE.match(ast.unparse(node)))


def shared_keys(trees: dict[Path, ast.Module]) -> int:
    """String keys of dicts and subscripts that three or more files spell."""
    spelled: dict[str, set[Path]] = defaultdict(set)
    for path, tree in trees.items():
        for key in keys_of(tree):
            spelled[key].add(path)
    return sum(len(paths) >= 3 for paths in spelled.values())


def keys_of(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        candidates: list[ast.expr | None] = []
        match node:
            case ast.Dict():
                candidates = list(node.keys)
            case ast.Subscript():
                candidates = [node.slice]
            case ast.Call(func=ast.Attribute(attr="get"), args=[first, *_]):
                candidates = [first]
            case _:
                pass
        for each in candidates:
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                yield each.value


def outside_rules(root: Path) -> int:
    """Modules and packages right below edgec that no contract of import-linter names."""
    rules = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    text = json.dumps(rules["contracts"])
    named = set(re.findall(r"[A-Za-z_]\w*", text))
    below = {p.stem for p in (root / "edgec").iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    return len(below - {"__init__"} - named)


def circles(root: Path) -> int:
    """Modules that import each other, directly or through others."""
    code = (
        "import sys, json, grimp; graph = grimp.build_graph('edgec', cache_dir=None, exclude_type_checking_imports=True); "
        "print(json.dumps({m: sorted(graph.find_modules_directly_imported_by(m)) for m in graph.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env={"PYTHONPATH": str(root)}, capture_output=True,
                          text=True, check=True)  # fmt: skip
    arrows: dict[str, list[str]] = json.loads(done.stdout)
    return sum(module in reachable(module, arrows) for module in arrows)


def reachable(start: str, arrows: dict[str, list[str]]) -> set[str]:
    """What a module imports, however far. A package's __init__ counts as a module of its own."""
    seen: set[str] = set()
    todo = list(arrows[start])
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += arrows.get(name, [])
    return seen


def places(root: Path, words: tuple[str, ...], own: str) -> dict[str, int]:
    """Files of the product and its packaging that mention a thing by name and are not its own, with the number of lines."""
    pattern = re.compile("|".join(WORD.format(re.escape(word)) for word in words))
    found: dict[str, int] = {}
    for path in [*(root / "edgec").rglob("*.py"), root / "pyproject.toml"]:
        name = str(path.relative_to(root))
        lines = [line for line in code_of(path).splitlines() if pattern.search(line)]
        if lines and not re.search(own, name):
            found[name] = len(lines)
    return found


def code_of(path: Path) -> str:
    """A file without its docstrings and comments: what names a thing there only tells a reader of it."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def strict_errors(root: Path) -> int:
    """Errors of pyright on edgec/ in strict mode."""
    with tempfile.TemporaryDirectory() as folder:
        from_there = os.path.relpath(root, folder)  # pyright takes no absolute path
        settings = {
            "include": [f"{from_there}/edgec"],
            "extraPaths": [from_there],
            "pythonVersion": "3.11",
            "typeCheckingMode": "strict",
        }
        config = Path(folder) / "pyrightconfig.json"
        config.write_text(json.dumps(settings))
        command = ["pyright", "--outputjson", "-p", str(config), "--pythonpath", sys.executable]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    return int(json.loads(done.stdout)["summary"]["errorCount"])


if __name__ == "__main__":
    main()
