"""Events: what listeners hear of work that is not training."""

from __future__ import annotations

from edgec.core.events import Event, Events, Progress


def test_progress_names_its_stage_and_how_far_it_has_come() -> None:
    heard: list[Event] = []
    advance = Events(listeners=(heard.append,)).progress("fitting layers", "thin")
    advance(1, 3)
    advance(3, 3)
    assert [(e.what, e.done, e.total) for e in heard if isinstance(e, Progress)] == [
        ("thin: fitting layers", 1, 3),
        ("thin: fitting layers", 3, 3),
    ]


def test_progress_outside_a_stage_has_no_prefix() -> None:
    heard: list[Event] = []
    Events(listeners=(heard.append,)).progress("upscaling")(0, 2)
    assert [e.what for e in heard if isinstance(e, Progress)] == ["upscaling"]
