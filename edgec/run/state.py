"""What a run is given, and where it stands: it grows stage by stage."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from edgec.core.events import Events
from edgec.core.network import Network
from edgec.core.results.stage import StageRecord, StageResult
from edgec.core.results.verdict import Verdict
from edgec.env import ProcessGroup
from edgec.recipe import Recipe, Stage
from edgec.recipe.stages import STAGES
from edgec.run.store import Store
from edgec.tasks.protocol import Task

R = TypeVar("R", bound=StageResult)


@dataclass(frozen=True)
class Run:
    """What one `compress` made."""

    folder: Path
    recipe: Recipe
    network: Network
    stages: Mapping[str, StageRecord]  # by name, in order; "input" is the network that went in
    gates: tuple[Verdict, ...]
    seconds: float

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def artifacts(self) -> Path:
        """The folder of the artifacts: `rejected/` when a gate is broken."""
        return self.folder / ("artifacts" if self.kept else "rejected")

    @property
    def kept(self) -> bool:
        return all(verdict.kept for verdict in self.gates)


@dataclass(frozen=True)
class RunContext:
    """What does not change while a run goes through its stages."""

    recipe: Recipe
    task: Task
    store: Store
    events: Events
    device: str = "cpu"
    process_group: ProcessGroup = field(default_factory=ProcessGroup)
    fresh: bool = False  # take nothing from the store
    allow_code: bool = False
    number: int = 0  # stands for the run's folder: what is measured is this run's own

    @property
    def leads(self) -> bool:
        """Whether this process writes: rank 0 of those that train together."""
        return self.process_group.rank == 0


@dataclass
class RunState:
    """Where a run stands."""

    network: Network
    dense: Network  # before the first stage that compresses: the default teacher, and the baseline of every comparison
    stages: dict[str, StageRecord] = field(default_factory=dict[str, StageRecord])
    files: Path | None = None  # of the last export
    files_key: str = ""
    packages: Path | None = None  # what the last profile stage made for other runtimes
    _dense_grows: bool = True  # no stage has compressed yet

    def advance(self, config: Stage, network: Network) -> None:
        """Continue with what a stage made of the network; what comes before the first compressing stage makes the dense one."""
        self._dense_grows = self._dense_grows and not STAGES.row(config.kind).compresses
        self.network = network
        if self._dense_grows:
            self.dense = network

    def last(self, kind: type[R]) -> R | None:
        """The result of the last stage that gave one of this type."""
        return next((r.result for r in reversed(self.stages.values()) if isinstance(r.result, kind)), None)


def store_root() -> Path:
    """Where stage results are kept: EDGEC_STORE, or runs/.store under the current folder."""
    return Path(os.environ.get("EDGEC_STORE", Path("runs") / ".store"))
