"""A runtime that computes nothing: for tests of what stands around runtimes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgec.core.errors import StageError
from edgec.core.session import Array, RuntimeInfo


class NullRuntime:
    name = "null"

    def probe(self) -> RuntimeInfo:
        return RuntimeInfo(self.name, "1", "none")

    def open(self, artifact: Path, threads: int = 1) -> NullSession:
        if not artifact.is_file():
            raise StageError(f"{artifact}: does not exist; check the path")
        return NullSession()


class NullSession:
    """Gives a single zero for any input."""

    inputs: Mapping[str, tuple[int | None, ...]] = {"images": (1, 3, 32, 32)}
    metadata: Mapping[str, str] = {}

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        return [np.zeros(1, np.float32)]
