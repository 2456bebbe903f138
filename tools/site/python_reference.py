"""The Python reference: a page that names what mkdocstrings shows, found in the code without importing it."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAD = (
    "# Python reference\n\n`import edgec` is cheap: nothing heavy is imported before it is used. The functions below are the "
    "twins of the commands; `edgec.NAME` gives each of them.\n"
)
# what extensions and scripts are made with, by heading: modules, or folders of modules
PARTS = {
    "Networks, predictors, metrics": ("core/network.py", "core/predictor.py", "core/metric.py"),
    "What stages and tasks are given": ("env.py", "tasks/protocol.py"),
    "Contracts": ("core/contract",),
    "Results": ("core/results",),
    "Tables and extensions": (
        "core/table.py", "core/extensions.py", "core/stage_spec.py", "core/runtimes.py", "distillers/distiller.py",
        "distillers/term.py", "recipe/tasks.py", "recipe/data.py",
    ),
    "For tests of your own": ("testing.py", "testing"),
    "Errors": ("core/errors.py",),
}  # fmt: skip


def python_page() -> str:
    """The page as Markdown. Parts that are not there are left out."""
    lines = [HEAD, "## edgec\n", *(f"::: {name}\n" for name in public_names().values())]
    for heading, places in PARTS.items():
        modules = [module for place in places for module in _modules(ROOT / "edgec" / place)]
        if modules:
            lines += [f"## {heading}\n", *(f"::: {module}\n" for module in modules)]
    return "\n".join(lines)


def public_names() -> dict[str, str]:
    """Name in `edgec` -> where it is defined, as `edgec/api.py` imports it."""
    tree = ast.parse((ROOT / "edgec" / "api.py").read_text(encoding="utf-8"))
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("edgec.")
        for alias in node.names
    }


def _modules(place: Path) -> list[str]:
    """A module, or all modules of a folder, dotted."""
    files = [place] if place.is_file() else sorted(place.glob("[!_]*.py"))
    return [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
