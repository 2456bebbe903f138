"""`edgec compress`"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from edgec.cli.console import err, say
from edgec.cli.options import CodeOption, DeviceOption, RecipeArg


def compress(
    recipe: RecipeArg,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    run: Annotated[Path | None, typer.Option(help="The run's folder. Default: runs/<recipe>-<n>.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, train nothing.")
    ] = False,
    device: DeviceOption = "auto",
    fresh: Annotated[bool, typer.Option("--fresh", help="Take nothing from the cache.")] = False,
    allow_code: CodeOption = False,
) -> None:
    """Run a recipe: compress the network, export it, measure it, and write the report."""
    if dry_run:
        from edgec.run.plan import plan

        for line in plan(recipe, overrides=overrides or (), allow_code=allow_code):
            say(line)
        return
    from edgec.cli.progress import live

    with live(err) as listener:
        import edgec

        done = edgec.compress(
            recipe, overrides=overrides or (), run=run, device=device, fresh=fresh, allow_code=allow_code,
            listeners=[listener],
        )  # fmt: skip
    if int(os.environ.get("RANK", "0")) == 0:
        for verdict in done.gates:
            say(f"kept: {verdict.promise} {verdict.limit:g} (measured {verdict.measured:.4g})")
        say(f"artifacts {done.artifacts}\nreport    {done.report}")
