"""`edgec upscale`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from edgec.cli.console import err, say
from edgec.cli.options import ThreadsOption

if TYPE_CHECKING:
    from edgec.tiles.upscale import Attention


def upscale(
    artifact: Annotated[Path, typer.Argument(help="An .onnx file of edgec for super-resolution.")],
    inputs: Annotated[list[Path], typer.Argument(metavar="IMAGE|FOLDER|VIDEO...", help="What to enlarge.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results (PNG, MP4).")],
    tile_memory: Annotated[
        str, typer.Option(help="Memory that the network may take; larger images go in tiles.")
    ] = "256MB",
    attention: Annotated[
        str, typer.Option(help="local: each tile its own statistics; exact: the whole image's, slower.")
    ] = "local",
    threads: ThreadsOption = 1,
) -> None:
    """Enlarge images and videos, from the artifact alone."""
    from edgec.cli.progress import live

    with live(err) as listener:
        import edgec

        written = edgec.upscale(
            artifact, inputs, output, tile_memory=tile_memory, threads=threads, listeners=[listener],
            attention=cast("Attention", attention),  # it refuses other words itself
        )  # fmt: skip
    for path in written.values():
        say(f"wrote {path}")
