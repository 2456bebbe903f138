"""`edgec devices`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from edgec.cli import exit_codes
from edgec.cli.console import out, show_json, warn
from edgec.cli.options import JsonOption

if TYPE_CHECKING:
    from edgec.devices.check import DeviceCheck


def devices(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DEVICE]...", help="Default: this machine, and all of devices.yaml."),
    ] = None,
    json_out: JsonOption = False,
) -> None:
    """The devices of devices.yaml: whether they answer, and what they are."""
    from edgec.devices.check import check_devices

    checks = check_devices(names or ())
    if json_out:
        show_json([check.to_json() for check in checks])
    else:
        table = Table()
        for column in ("device", "address", "what it is", "load", "Python", "packages"):
            table.add_column(column, no_wrap=column in ("device", "address"))
        for check in checks:
            table.add_row(*map(escape, _row(check)))
        out.print(table)
        for check in checks:
            if check.error:
                warn(check.error)
    if any(check.error for check in checks):
        raise typer.Exit(exit_codes.MISSING)


def _row(check: DeviceCheck) -> tuple[str, ...]:
    about = check.environment
    if about is None:
        return check.device, check.address, "does not answer", "", "", ""
    load = "" if about.load_average is None else f"{about.load_average:.2f}"
    versions = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    return check.device, check.address, f"{about.cpu}, {about.cores} cores", load, about.python, versions
