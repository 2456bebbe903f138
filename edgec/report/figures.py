"""How figures are written in tables: with their units and digits. Metrics write their own values."""

from __future__ import annotations

from edgec.core.metric import MISSING
from edgec.core.results.profile import Speedup


def percent(before: float | None, after: float | None) -> str:
    """The change, as a share of what it was."""
    if not before or after is None:
        return ""
    return f"{100 * (after / before - 1):+.1f} %"


def unrounded(value: float | None) -> str:
    """A limit or what was measured against it: whole numbers to the last digit."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.6g}"


def interval(median_ms: float, low_ms: float, high_ms: float) -> str:
    """A median with its 95 % interval, ms."""
    return f"{median_ms:.2f} ({low_ms:.2f} to {high_ms:.2f})"


def optional(value: float | None, digits: int = 1) -> str:
    """Empty where there is no figure."""
    return "" if value is None else f"{value:.{digits}f}"


def ratio_text(ratio: Speedup | None) -> str:
    """A speed-up with its 95 % interval; empty where there is none."""
    return f"{ratio.ratio:.2f} x ({ratio.ci_low:.2f} to {ratio.ci_high:.2f})" if ratio else ""
