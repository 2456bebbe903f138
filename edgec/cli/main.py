"""The entry point `edgec`: errors become a message on standard error and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Protocol, runtime_checkable

import typer

from edgec.cli.app import app as app
from edgec.cli.console import show_error, warn
from edgec.cli.exit_codes import DONE, INTERRUPTED, USAGE
from edgec.core.errors import EdgecError
from edgec.core.files import disk_error


@runtime_checkable
class WrongUsage(Protocol):
    """An unknown option or command, as typer raises it; its class is click's or typer's own, by the release."""

    exit_code: int

    def show(self) -> None: ...


def main() -> None:
    """Run the command line. Ends the process with one of `EXIT_CODES`."""
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if isinstance(code, int):
            sys.exit(code)
    except EdgecError as error:
        show_error(error)
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        warn("Interrupted; run the same command to resume")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DONE)
    except OSError as error:
        if (storage := disk_error(error)) is None:
            raise
        show_error(storage)
        sys.exit(storage.exit_code)
    except Exception as error:
        if not isinstance(error, WrongUsage):
            raise
        error.show()
        sys.exit(USAGE)
