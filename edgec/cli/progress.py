"""Events as a person sees them while they wait: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from edgec.core import events
from edgec.core.events import Event, Listener


def terms(losses: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.3g}" for name, value in losses.items())


def headline(metrics: Mapping[str, object]) -> str:
    """The first two figures that are not those of a class, a set or an image."""
    named = [(k, v) for k, v in metrics.items() if "/" not in k and isinstance(v, float)]
    return ", ".join(f"{name} {value:.4f}" for name, value in named[:2])


def line_of(event: Event) -> str | None:
    """An event as one line of text, or None for those that only move a bar."""
    match event:
        case events.StageStarted(stage=stage, cached=cached, reason=reason):
            return f"{stage}: cached" if cached else f"{stage}: started" + (f" ({reason})" if reason else "")
        case events.StageEnded(stage=stage, seconds=seconds, cached=cached, metrics=metrics):
            figures = headline(metrics)
            return (
                None
                if cached and not figures
                else f"{stage}: done in {seconds:.0f} s" + (f", {figures}" if figures else "")
            )
        case events.EpochEnded(stage=stage, epoch=epoch, losses=losses, metrics=metrics, seconds=seconds):
            figures = headline(metrics)
            return f"{stage}: epoch {epoch + 1} {terms(losses)} ({seconds:.0f} s)" + (
                f", {figures}" if figures else ""
            )
        case events.Note(level=level, message=message):
            return message if level == "info" else f"{level}: {message}"
        case _:
            return None


@contextmanager
def live(console: Console) -> Generator[Listener]:
    """A listener that shows progress on `console` while the block runs."""
    if not console.is_terminal:

        def write(event: Event) -> None:
            line = line_of(event)
            if line:
                console.print(line, highlight=False, markup=False, soft_wrap=True)

        yield write
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, left="")

        def draw(event: Event) -> None:
            match event:
                case events.Step():
                    minutes = "" if event.seconds_left is None else f"{event.seconds_left / 60:.1f} min left"
                    what = f"{event.stage} epoch {event.epoch + 1}/{event.epochs} {terms(event.losses)}"
                    bar.update(task, description=what, completed=event.step, total=event.steps, left=minutes)
                case events.Progress():
                    bar.update(task, description=event.what, completed=event.done, total=event.total, left="")
                case _:
                    line = line_of(event)
                    if line:
                        console.print(line, highlight=False, markup=False)

        yield draw
