"""`edgec profile`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgec.cli import exit_codes
from edgec.cli.console import drawn, err, say, show, show_json, warn
from edgec.cli.options import JsonOption, ThreadCountsOption, counts, parts, shapes
from edgec.core.runtimes import RUNTIMES

if TYPE_CHECKING:
    from edgec.core.results.profile import ProfileResult


def profile(
    artifacts: Annotated[
        list[Path], typer.Argument(metavar="ARTIFACT|RUN...", help="Any .onnx files, or folders of runs.")
    ],
    runtimes: Annotated[
        str,
        typer.Option(
            help=f"Of onnxruntime, {', '.join(r.name for r in RUNTIMES.own if r.converted)}, "
            "or an installed package's; all: those that are installed."
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
    from edgec.runtimes.convert import installed

    present, absent = installed()
    for name in absent:
        warn(f"without {name}: pip install {RUNTIMES.row(name).install}")
    return ["onnxruntime", *present]


def _show_result(result: ProfileResult) -> None:
    """The table of each device with its ratios, then conversions and int8 files."""
    from edgec.report.latency_table import latency_table, ratio_lines

    for figures in result.devices:
        show(drawn(latency_table(figures, brief=True)))
        for reason in figures.reasons:
            say(f"{figures.verdict}: {reason}")
        for line in ratio_lines(figures):
            say(line)
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
