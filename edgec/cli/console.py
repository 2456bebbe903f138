"""How commands print: results to standard output, everything else to standard error; nothing is cut or restyled."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgec.core.errors import EdgecError, ProblemsError
from edgec.core.results.table import Marked
from edgec.core.results.table import Table as DescribedTable

MOST_PROBLEMS = 200  # lines; the rest is counted

out = Console()
err = Console(stderr=True)


def say(text: str) -> None:
    """A line of the result, as it is."""
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def warn(text: str) -> None:
    """A line beside the result, as it is."""
    err.print(text, highlight=False, markup=False, soft_wrap=True)


def show(table: Table) -> None:
    """Nothing of a table is cut: in a narrow terminal its lines are folded by the terminal."""
    needed = Console(width=1000).measure(table).maximum
    Console(width=max(needed, out.width)).print(table)


def drawn(described: DescribedTable, named: int = 2) -> Table:
    """A table of a result for the terminal; its first `named` columns are names."""
    table = Table(title=escape(described.title))
    for index, column in enumerate(described.columns):
        table.add_column(column, justify="left" if index < named else "right", no_wrap=index < named)
    for row in described.rows:
        table.add_row(*(escape(cell.text if isinstance(cell, Marked) else str(cell)) for cell in row))
    return table


def show_json(tree: Any) -> None:
    """A result for programs. `tree` is what `json` takes."""
    print(json.dumps(tree, indent=1))


def show_error(error: EdgecError) -> None:
    """Every problem on its own line."""
    kind = type(error).__name__
    problems = error.problems if isinstance(error, ProblemsError) else []
    if len(problems) <= 1:
        err.print(f"[bold red]{kind}[/]: ", end="")
        warn(str(error))
        return
    err.print(f"[bold red]{kind}[/]: {len(problems)} problems")
    for problem in problems[:MOST_PROBLEMS]:
        warn(f"  {problem}")
    if len(problems) > MOST_PROBLEMS:
        err.print(f"  and {len(problems) - MOST_PROBLEMS} more")
