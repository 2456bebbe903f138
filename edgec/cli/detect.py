"""`edgec detect`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgec.cli.console import say
from edgec.cli.options import ThreadsOption


def detect(
    artifact: Annotated[
        Path, typer.Argument(help="An .onnx file of edgec; its contract says how to use it.")
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images, or folders of images.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the drawn images and detections.json.")
    ],
    score: Annotated[float, typer.Option(min=0.0, max=1.0, help="Least score that is drawn.")] = 0.25,
    threads: ThreadsOption = 1,
) -> None:
    """Boxes drawn and as JSON, from the artifact alone."""
    import edgec

    for name, objects in edgec.detect(artifact, images, output, score=score, threads=threads).items():
        say(f"{name}: {len(objects)} objects")
    say(f"wrote {output}")
