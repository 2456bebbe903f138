"""`edgec compare`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from edgec.cli.console import say, show, show_json, warn
from edgec.cli.options import JsonOption


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write a page with a chart here.")
    ] = None,
    json_out: JsonOption = False,
) -> None:
    """Accuracy, size and latency of several runs side by side."""
    import edgec
    from edgec.core.results.table import Marked

    comparison = edgec.compare(runs, output)
    if json_out:
        show_json(comparison.to_json())
        return
    table = Table(title=f"{comparison.task}, {comparison.split} split")
    for index, column in enumerate(comparison.artifacts.columns):
        table.add_column(column, justify="left" if index < 2 else "right", no_wrap=index < 2)
    for row in comparison.artifacts.rows:
        table.add_row(*(escape(cell.text if isinstance(cell, Marked) else str(cell)) for cell in row))
    show(table)
    for warning in comparison.warnings:
        warn(warning)
    if output is not None:
        say(f"wrote {output}")
