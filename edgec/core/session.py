"""What every runtime offers: an artifact, opened, that runs. No runtime times itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]


class Session(Protocol):
    """An opened artifact. Opening raises Missing without the runtime, StageError for a file that cannot run in it."""

    inputs: Mapping[str, tuple[int | None, ...]]  # name -> shape; None where any size goes
    metadata: Mapping[str, str]

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs in the order of the artifact. Raises StageError for inputs that it does not take."""
        ...
