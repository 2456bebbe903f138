"""Whether a promise of the recipe was kept: what gates give, the run keeps and the report shows."""

from __future__ import annotations

from edgec.core.frozen import Frozen


class Verdict(Frozen):
    """One promise, what was measured, and whether it was kept. `measured` None: nothing was measured."""

    promise: str
    limit: float
    measured: float | None
    kept: bool
    remedy: str = ""
