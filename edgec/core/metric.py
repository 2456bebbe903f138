"""What an accuracy is called: its title, unit and digits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A figure of `Task.evaluate` that reports show, higher is better."""

    name: str  # its key
    title: str
    unit: str = ""
    digits: int = 4  # after the point
    share: bool = False  # of 1: changes are told in points, hundredths of it
    small_drop: float = 0.003  # in its unit: what int8 may lose where the recipe does not say
