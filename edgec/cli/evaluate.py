"""`edgec evaluate`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from edgec.cli.console import err, out, show_json
from edgec.cli.options import CodeOption, JsonOption


def evaluate(
    subject: Annotated[
        Path, typer.Argument(metavar="ARTIFACT|RUN", help="An .onnx file of edgec, or a run's folder.")
    ],
    recipe: Annotated[str, typer.Option(help="The recipe that names the data.")],
    runtime: Annotated[str, typer.Option(help="onnxruntime, or torch for a network folder.")] = "onnxruntime",
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    overrides: Annotated[list[str] | None, typer.Option("--set", help="key=value on the recipe.")] = None,
    allow_code: CodeOption = False,
    json_out: JsonOption = False,
) -> None:
    """Accuracy of an artifact in its runtime."""
    from edgec.cli.progress import live

    with live(err) as listener:
        import edgec

        accuracies = edgec.evaluate(
            subject, recipe, runtime=runtime, split=split, overrides=overrides or (), allow_code=allow_code,
            listeners=[listener],
        )  # fmt: skip
    if json_out:
        show_json({name: accuracy.flat() for name, accuracy in accuracies.items()})
        return
    for name, accuracy in accuracies.items():
        table = Table(title=escape(f"{name} on {split}, in {runtime}"))
        table.add_column("metric")
        table.add_column("value", justify="right")
        for key, value in accuracy.flat().items():
            table.add_row(escape(key), f"{value:.4f}" if isinstance(value, float) else str(value))
        out.print(table)
