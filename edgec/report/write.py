"""The report of a run: report.json (the figures), report.html and report.md (the same, for people)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from edgec.core.files import write_atomic
from edgec.report.tables import view


def write(folder: Path, data: Mapping[str, Any], pictures: list[dict[str, str]]) -> None:
    """Write the three files. `data` is JSON; `pictures` have caption, mime and base64, and go into the page alone."""
    finite = _finite(data)
    write_atomic(folder / "report.json", json.dumps(finite, indent=1, allow_nan=False, default=str).encode())
    shown = view(finite)
    page = rendered("page.html", shown["recipe"], {**shown, "pictures": pictures})
    write_atomic(folder / "report.html", page.encode())
    write_atomic(folder / "report.md", markdown(shown).encode())


def rendered(template: str, title: str, d: Mapping[str, Any]) -> str:
    """A page of this package, with its data."""
    loader = jinja2.FunctionLoader(lambda name: (resources.files("edgec.report") / name).read_text("utf-8"))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, loader=loader)
    return environment.get_template(template).render(title=title, d=d)


def _finite(tree: Any) -> Any:
    """JSON has no NaN: what was not measured is null. Numpy's numbers become Python's."""
    if isinstance(tree, np.generic):
        tree = tree.item()
    if isinstance(tree, Mapping):
        return {str(k): _finite(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(v) for v in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def markdown(shown: Mapping[str, Any]) -> str:
    """The tables of the page as Markdown."""
    lines = [f"# {shown['recipe']}", "", f"{shown['task']}, {shown['date']}, {shown['seconds']:.0f} s", ""]
    if shown["gates"]:
        lines += ["**every gate kept**" if shown["kept"] else "**a gate is broken**", ""]
    titles = {"gates": "Gates", "inout": "In and out", "stages": "Stages", "artifacts": "Artifacts"}
    for key, title in titles.items():
        lines += _table(title, shown["columns"][key], shown[f"{key.removesuffix('s')}_rows"])
    for device in shown["devices"]:
        on = f" on {device['device']}"
        lines += _table(f"Latency{on}", shown["columns"]["latency"], device["latency_rows"])
        lines += _table(f"Runtimes{on}", device["runtime_columns"], device["runtime_rows"])
        lines += _table(f"Not measured{on}", ["artifact", "runtime", "why"], device["refused_rows"])
    if shown["notes"]:
        lines += ["## Notes", ""] + [f"- {n['message']}" for n in shown["notes"]] + [""]
    lines += ["## To reproduce", "", "    " + shown["command"], ""]
    return "\n".join(lines)


def _table(title: str, columns: list[str], rows: list[list[Any]]) -> list[str]:
    """Lines; none without rows."""
    if not rows:
        return []
    body = [_row([c["text"] if isinstance(c, Mapping) else c for c in row]) for row in rows]
    return [f"## {title}", "", _row(columns), _row(["---"] * len(columns)), *body, ""]


def _row(cells: list[Any]) -> str:
    return "| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in cells) + " |"
