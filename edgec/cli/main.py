"""The command line: parse and print. No work of its own; torch is imported only inside commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgec.core.errors import EdgecError, ProblemsError
from edgec.core.files import disk_error
from edgec.core.results.table import Marked
from edgec.core.results.table import Table as DescribedTable
from edgec.core.runtimes import RUNTIMES

if TYPE_CHECKING:
    from edgec.core.results.profile import ProfileResult

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Compress a trained vision network for an edge device, and prove it on the artifact.",
    epilog="Exit codes: 0 done, 1 a bug, 2 recipe or usage, 3 a gate broken, 4 something is missing, "
    "5 bad data, 7 storage (disk full, read-only or damaged), 130 interrupted (the same command resumes).",
)
INTERRUPTED = 130
out = Console()
err = Console(stderr=True)

RecipeArg = Annotated[str, typer.Argument(metavar="RECIPE", help="A path, or the name of a shipped recipe.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
CodeOption = Annotated[bool, typer.Option("--allow-code", help="Run the Python code that the recipe names.")]
ThreadsOption = Annotated[str, typer.Option(help="Thread counts, such as 1,2. Default: 1 and all cores.")]


def main() -> None:
    """Entry point: errors become a message on stderr and an exit code."""
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
        err.print("interrupted; the same command begins again, and a run goes on where it was")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if (storage := disk_error(error)) is None:
            raise
        show_error(storage)
        sys.exit(storage.exit_code)
    except Exception as error:
        if _is_usage_error(error):
            error.show()  # type: ignore[attr-defined]
            sys.exit(2)
        raise


def _is_usage_error(error: Exception) -> bool:
    return hasattr(error, "show") and hasattr(error, "exit_code")


def show_error(error: EdgecError) -> None:
    """Every problem on a line of its own."""
    kind = type(error).__name__
    problems = error.problems if isinstance(error, ProblemsError) else []
    if len(problems) > 1:
        err.print(f"[bold red]{kind}[/]: {len(problems)} problems")
        for problem in problems[:200]:
            err.print(f"  {problem}", markup=False, highlight=False, soft_wrap=True)
        if len(problems) > 200:
            err.print(f"  and {len(problems) - 200} more")
    else:
        err.print(f"[bold red]{kind}[/]: ", end="")
        err.print(str(error), markup=False, highlight=False, soft_wrap=True)


@app.command()
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
    from edgec.cli.progress import live

    if dry_run:
        from edgec.run.plan import plan

        for line in plan(recipe, overrides=overrides or (), allow_code=allow_code):
            out.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    with live(err) as listener:
        import edgec

        done = edgec.compress(
            recipe, overrides=overrides or (), run=run, device=device, fresh=fresh, allow_code=allow_code,
            listeners=[listener],
        )  # fmt: skip
    if int(os.environ.get("RANK", "0")) == 0:
        for verdict in done.gates:
            out.print(
                f"kept: {verdict.promise} {verdict.limit:g} (measured {verdict.measured:.4g})",
                highlight=False,
            )
        _say(f"artifacts {done.artifacts}\nreport    {done.report}")


@app.command()
def evaluate(
    subject: Annotated[
        Path, typer.Argument(metavar="ARTIFACT|RUN", help="An .onnx file of edgec, or a run's folder.")
    ],
    recipe: Annotated[str, typer.Option(help="The recipe that names the data.")],
    runtime: Annotated[str, typer.Option(help="onnxruntime, or torch for a network folder.")] = "onnxruntime",
    split: Annotated[str, typer.Option(help="val or test.")] = "val",
    overrides: Annotated[list[str] | None, typer.Option("--set", help="key=value on the recipe.")] = None,
    allow_code: CodeOption = False,
    json_out: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Accuracy of an artifact in its runtime."""
    import edgec
    from edgec.cli.progress import live

    with live(err) as listener:
        accuracies = edgec.evaluate(
            subject, recipe, runtime=runtime, split=split, overrides=overrides or (), allow_code=allow_code,
            listeners=[listener],
        )  # fmt: skip
    rows = {name: accuracy.flat() for name, accuracy in accuracies.items()}
    if json_out:
        import json

        print(json.dumps(rows, indent=1))
        return
    for name, metrics in rows.items():
        table = Table(title=escape(f"{name} on {split}, in {runtime}"))
        table.add_column("metric")
        table.add_column("value", justify="right")
        for key, value in metrics.items():
            table.add_row(escape(key), f"{value:.4f}" if isinstance(value, float) else str(value))
        out.print(table)


@app.command()
def detect(
    artifact: Annotated[
        Path, typer.Argument(help="An .onnx file of edgec; its contract says how to use it.")
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images, or folders of images.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the drawn images and detections.json.")
    ],
    score: Annotated[float, typer.Option(min=0.0, max=1.0, help="Least score that is drawn.")] = 0.25,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Boxes drawn and as JSON, from the artifact alone."""
    import edgec

    found = edgec.detect(artifact, images, output, score=score, threads=threads)
    for name, boxes in found.items():
        out.print(f"{name}: {len(boxes)} objects", highlight=False, markup=False)
    _say(f"wrote {output}")


@app.command()
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
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Enlarge images and videos, from the artifact alone."""
    import edgec
    from edgec.cli.progress import live

    with live(err) as listener:
        written = edgec.upscale(
            artifact, inputs, output, tile_memory=tile_memory, attention=attention,  # type: ignore[arg-type]
            threads=threads, listeners=[listener],
        )  # fmt: skip
    for path in written.values():
        out.print(f"wrote {path}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def profile(
    artifacts: Annotated[
        list[Path], typer.Argument(metavar="ARTIFACT|RUN...", help="Any .onnx files, or folders of runs.")
    ],
    runtimes: Annotated[
        str,
        typer.Option(
            help=f"Of onnxruntime, {', '.join(r.name for r in RUNTIMES.own if r.converted)}; all: those that are installed."
        ),
    ] = "onnxruntime",
    devices: Annotated[
        str, typer.Option(help="local, ssh://user@host, adb://serial, names of devices.yaml; by commas.")
    ] = "local",
    threads: ThreadsOption = "",
    batches: Annotated[
        str, typer.Option(help="Batch sizes, such as 1,8, where the file leaves them open.")
    ] = "1",
    shape: Annotated[
        list[str] | None,
        typer.Option(help="INPUT=1,3,320,320 where a file leaves sizes open; may be repeated."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="The artifact that the others are held against.")
    ] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Latency of artifacts, measured in fresh processes that take turns."""
    import edgec
    from edgec.cli.progress import live
    from edgec.runtimes.convert import installed

    if runtimes == "all":
        there, absent = installed()
        names = ["onnxruntime", *there]
        for name in absent:
            err.print(
                f"without {name}: pip install 'edgec[{name}]'", markup=False, highlight=False, soft_wrap=True
            )
    else:
        names = _parts(runtimes)
    with live(err) as listener:
        result = edgec.profile(
            artifacts, threads=_counts(threads, "--threads"), runtimes=names, against=against,
            devices=_parts(devices), batches=_counts(batches, "--batches") or (1,), shapes=_shapes(shape or ()),
            listeners=[listener],
        )  # fmt: skip
    if json_out:
        print(result.model_dump_json(indent=1))
    else:
        _show_profile(result)
    failures = result.failures
    if failures:  # what was measured is shown all the same
        err.print(f"{len(failures)} of the measurements failed; see above", markup=False, highlight=False)
        raise typer.Exit(4 if any(f.kind in ("missing", "lost") for f in failures) else 2)


def _show_profile(result: ProfileResult) -> None:
    """The table of each device with its ratios, then conversions and int8 files."""
    from edgec.report.latency_table import latency_table, ratio_lines

    for figures in result.devices:
        _show(_rich(latency_table(figures, brief=True), named=2))
        for reason in figures.reasons:
            _say(f"{figures.verdict}: {reason}")
        for line in ratio_lines(figures):
            _say(line)
    for conversion in result.conversions:
        decibels = (
            f"{conversion.snr_db:.1f} dB from onnxruntime's outputs" if conversion.snr_db is not None else ""
        )
        text = "; ".join(part for part in (decibels, conversion.reason) if part)
        _say(f"{conversion.artifact} in {conversion.runtime}: {text}")
    for artifact, fusion in result.fusion.items():
        total = fusion.integer + len(fusion.left_float)
        _say(f"{artifact} in onnxruntime: {fusion.integer} of {total} convolutions run in integers")
        for left in fusion.left_float:
            _say(f"  {left.layer} stays in float: {left.reason}")
        for lone in fusion.lone:
            _say(f"  {lone.tensor} is dequantized: {lone.reason}")


def _rich(described: DescribedTable, named: int) -> Table:
    """A table for the terminal; its first `named` columns are names."""
    table = Table(title=escape(described.title))
    for index, column in enumerate(described.columns):
        table.add_column(column, justify="left" if index < named else "right", no_wrap=index < named)
    for row in described.rows:
        table.add_row(*(escape(cell.text if isinstance(cell, Marked) else str(cell)) for cell in row))
    return table


def _show(table: Table) -> None:
    """Nothing of a table is cut: in a narrow terminal its lines are folded by the terminal."""
    needed = Console(width=1000).measure(table).maximum
    Console(width=max(needed, out.width)).print(table)


def _say(text: str) -> None:
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _counts(text: str, option: str, most: int = 1024) -> tuple[int, ...]:
    from edgec.core.errors import Problem, RecipeError

    try:
        counts = tuple(int(part) for part in _parts(text))
    except ValueError:
        counts = (0,)
    if any(not 1 <= count <= most for count in counts):
        raise RecipeError([Problem(option, f"{text!r} is not a list of counts", "write 1,2")])
    return counts


def _shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    from edgec.core.errors import Problem, RecipeError

    found: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, equals, sizes = text.partition("=")
        if not equals or not name or not _parts(sizes):
            raise RecipeError([Problem("--shape", repr(text), "write images=1,3,320,320")])
        found[name] = _counts(sizes, "--shape", 2**20)
    return found


@app.command()
def devices(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DEVICE]...", help="Default: this machine, and all of devices.yaml."),
    ] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The devices of devices.yaml: whether they answer, and what they are."""
    import edgec

    found = [check.to_json() for check in edgec.check_devices(names or ())]
    if json_out:
        import json

        print(json.dumps(found, indent=1))
    else:
        table = Table()
        for column in ("device", "address", "what it is", "load", "Python", "packages"):
            table.add_column(column, no_wrap=column in ("device", "address"))
        for row in found:
            about = row["environment"]
            what = f"{about['cpu']}, {about['cores']} cores" if about else "does not answer"
            load = about.get("load_average")
            versions = ", ".join(f"{name} {version}" for name, version in about.get("versions", {}).items())
            load = "" if load is None else f"{load:.2f}"
            told = (row["device"], row["address"], what, load, about.get("python", ""), versions)
            table.add_row(*(escape(str(part)) for part in told))
        out.print(table)
        for row in found:
            if row["error"]:
                err.print(row["error"], markup=False, highlight=False, soft_wrap=True)
    if any(row["error"] for row in found):
        raise typer.Exit(4)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write a page with a chart here.")
    ] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Accuracy, size and latency of several runs side by side."""
    import edgec

    comparison = edgec.compare(runs, output)
    if json_out:
        import json

        print(json.dumps(comparison.to_json(), indent=1))
        return
    title = f"{comparison.task}, {comparison.split} split"
    _show(_rich(replace(comparison.artifacts, title=title), named=2))
    for warning in comparison.warnings:
        err.print(warning, markup=False, highlight=False, soft_wrap=True)
    if output is not None:
        out.print(f"wrote {output}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def recipes() -> None:
    """The recipes that edgec ships."""
    from edgec.recipe.yaml_source import find_recipe, shipped_recipes

    for name in shipped_recipes():
        first = find_recipe(name)[0].splitlines()[0].lstrip("# ")
        _say(f"{name:32} {first}")


@app.command()
def models() -> None:
    """The architectures and the weights that edgec ships."""
    from importlib import resources
    from inspect import signature

    from edgec.core.architectures import resolve_arch, shipped_archs

    for name in shipped_archs():
        out.print(
            f"{name:16} {signature(resolve_arch(name, False), eval_str=True)}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
    for file in sorted(
        f.name for f in resources.files("edgec.models").iterdir() if f.name.endswith(".safetensors")
    ):
        out.print(f"edgec:{file}", highlight=False)


@app.command()
def doctor(
    install: Annotated[
        str, typer.Option(help="litert-converter: make the environment that converts for LiteRT.")
    ] = "",
) -> None:
    """What is installed, what this machine can do, and what is missing."""
    from edgec.cli.doctor import report

    if install:
        from edgec.core.errors import Problem, RecipeError
        from edgec.runtimes.converters.litert_environment import install_converter

        if install != "litert-converter":
            raise RecipeError([Problem("--install", repr(install), "give litert-converter")])
        _say(f"installed in {install_converter()}")
        return

    table = Table()
    for column in ("what", "found", "remedy"):
        table.add_column(column, overflow="fold")
    for row in report():
        table.add_row(*(escape(str(cell)) for cell in row))
    out.print(table)


@app.command()
def init(
    data: Annotated[Path, typer.Option(help="The folder of the data set: VOC, COCO, YOLO, or images alone.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write the recipe.")] = Path(
        "detector.yaml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Overwrite.")] = False,
) -> None:
    """Write a recipe for your data."""
    from edgec.cli.init import write_recipe

    for line in write_recipe(data, output, force):
        out.print(line, highlight=False, markup=False, soft_wrap=True)


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from edgec.core.version import __version__

        out.print(f"edgec {__version__}", highlight=False)
        raise typer.Exit()
