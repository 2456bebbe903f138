"""What every runtime offers: open an artifact, run it. No runtime times itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class RuntimeInfo:
    """What a runtime is, on this machine."""

    name: str
    version: str
    device: str


class Session(Protocol):
    """An opened artifact."""

    inputs: Mapping[str, tuple[int | None, ...]]  # name -> shape; None where any size goes
    metadata: Mapping[str, str]

    def run(self, feeds: Mapping[str, Array]) -> list[Array]: ...


class Runtime(Protocol):
    name: str

    def probe(self) -> RuntimeInfo:
        """Version and device; raises Missing with the remedy when it is not installed."""
        ...

    def open(self, artifact: Path, threads: int) -> Session:
        """Raises StageError when the file is damaged or cannot run here."""
        ...
