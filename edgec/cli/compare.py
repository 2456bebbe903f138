"""`edgec compare`"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from edgec.cli.console import drawn, say, show, show_json, warn
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

    comparison = edgec.compare(runs, output)
    if json_out:
        show_json(comparison.to_json())
        return
    title = f"{comparison.task}, {comparison.split} split"
    show(drawn(replace(comparison.artifacts, title=title)))
    for warning in comparison.warnings:
        warn(warning)
    if output is not None:
        say(f"wrote {output}")
