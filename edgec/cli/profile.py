"""`edgec profile`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from edgec.cli import exit_codes
from edgec.cli.console import err, say, show, show_json, warn
from edgec.cli.options import JsonOption, ThreadCountsOption, counts, parts, shapes

if TYPE_CHECKING:
    from edgec.core.results.profile import DeviceFigures, ProfileResult


def profile(
    artifacts: Annotated[
        list[Path], typer.Argument(metavar="ARTIFACT|RUN...", help="Any .onnx files, or folders of runs.")
    ],
    runtimes: Annotated[
        str,
        typer.Option(
            help="Of onnxruntime, openvino, ncnn, mnn, litert, executorch; all: those that are installed."
        ),
    ] = "onnxruntime",
    devices: Annotated[
        str, typer.Option(help="local, ssh://user@host, adb://serial, names of devices.yaml; by commas.")
    ] = "local",
    threads: ThreadCountsOption = "",
    batches: Annotated[
        str, typer.Option(help="Batch sizes, such as 1,8, where the file leaves them open.")
    ] = "1",
    shape: Annotated[
        list[str] | None,
        typer.Option(help="INPUT=1,3,320,320 where a file leaves sizes open; may be repeated."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="The artifact that the others are compared with.")
    ] = None,
    json_out: JsonOption = False,
) -> None:
    """Latency of artifacts, measured in fresh processes that take turns."""
    from edgec.cli.progress import live

    names = _all_runtimes() if runtimes == "all" else parts(runtimes)
    with live(err) as listener:
        import edgec

        result = edgec.profile(
            artifacts, threads=counts(threads, "--threads"), runtimes=names, against=against,
            devices=parts(devices), batches=counts(batches, "--batches") or (1,), shapes=shapes(shape or ()),
            listeners=[listener],
        )  # fmt: skip
    if json_out:
        show_json(result.model_dump(mode="json"))
    else:
        _show_result(result)
    if result.failures:  # what was measured is shown all the same
        warn(f"{len(result.failures)} of the measurements failed; see above")
        absent = any(failure.kind in ("missing", "lost") for failure in result.failures)
        raise typer.Exit(exit_codes.MISSING if absent else exit_codes.USAGE)


def _all_runtimes() -> list[str]:
    """Those that are installed; says how to get the others."""
    from edgec.core.runtimes import RUNTIMES
    from edgec.runtimes.convert import installed

    present, absent = installed()
    for name in absent:
        warn(f"without {name}: pip install 'edgec[{RUNTIMES.row(name).extra}]'")
    return ["onnxruntime", *present]


def _show_result(result: ProfileResult) -> None:
    for figures in result.devices:
        _show_latency(figures)
    for conversion in result.conversions:
        snr = conversion.snr_db
        near = "" if snr is None else f"{snr:.1f} dB from onnxruntime's outputs"
        text = "; ".join(part for part in (near, conversion.reason) if part)
        say(f"{conversion.artifact} in {conversion.runtime}: {text}")
    for artifact, fusion in result.fusion.items():
        total = fusion.integer + len(fusion.left_float)
        say(f"{artifact} in onnxruntime: {fusion.integer} of {total} convolutions run in integers")
        for left in fusion.left_float:
            say(f"  {left.layer} stays in float: {left.reason}")
        for lone in fusion.lone:
            say(f"  {lone.tensor} is dequantized: {lone.reason}")


def _show_latency(figures: DeviceFigures) -> None:
    """The table of one device, and its ratios."""
    machine = "this machine" if figures.device == "local" else figures.device
    table = Table(title=escape(f"latency on {machine}: {figures.verdict}"))
    batched = any(cell.batch != 1 for cell in figures.cells)
    for column in ("artifact", "runtime"):
        table.add_column(column, no_wrap=True)
    measured = ("threads", "median ms", "95 % interval", "p5", "p90", "p99", "peak MB", "runs")
    for column in (*(("batch",) if batched else ()), *measured):
        table.add_column(column, justify="right")
    for cell in figures.cells:
        table.add_row(
            escape(str(cell.artifact)),
            cell.runtime,
            *([str(cell.batch)] if batched else []),
            str(cell.threads),
            f"{cell.median_ms:.2f}",
            f"{cell.ci_low_ms:.2f}-{cell.ci_high_ms:.2f}",
            *("" if value is None else f"{value:.2f}" for value in (cell.p5_ms, cell.p90_ms, cell.p99_ms)),
            f"{cell.peak_rss_bytes / 1e6:.0f}" if cell.peak_rss_bytes else "",
            str(cell.runs),
        )
    show(table)
    for reason in figures.reasons:
        say(f"{figures.verdict}: {reason}")
    for ratio in figures.speedups:
        batch = f", batch {ratio.batch}" if ratio.batch != 1 else ""
        say(
            f"{ratio.artifact} is {ratio.ratio:.2f} ({ratio.ci_low:.2f}-{ratio.ci_high:.2f}) times as fast as "
            f"{ratio.against} with {ratio.threads} thread(s){batch} in {ratio.runtime}"
        )
