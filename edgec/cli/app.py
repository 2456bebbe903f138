"""All commands under `edgec`. Nothing heavy is imported here: commands import torch when they run."""

from __future__ import annotations

from typing import Annotated

import typer

from edgec.cli import exit_codes
from edgec.cli.compare import compare
from edgec.cli.compress import compress
from edgec.cli.console import say
from edgec.cli.detect import detect
from edgec.cli.devices import devices
from edgec.cli.doctor import doctor
from edgec.cli.evaluate import evaluate
from edgec.cli.init import init
from edgec.cli.models import models
from edgec.cli.profile import profile
from edgec.cli.recipes import recipes
from edgec.cli.schema import schema
from edgec.cli.upscale import upscale

COMMANDS = (
    compress,
    evaluate,
    detect,
    upscale,
    profile,
    devices,
    compare,
    recipes,
    models,
    schema,
    doctor,
    init,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Compress a trained vision network for an edge device, and prove it on the artifact.",
    epilog=f"Exit codes: {exit_codes.in_a_line()}.",
)
for command in COMMANDS:
    app.command()(command)


@app.callback(invoke_without_command=True)
def edgec(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from edgec.core.version import __version__

        say(f"edgec {__version__}")
        raise typer.Exit()
