"""What a stage is given besides its config and the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgec.core.events import Events
from edgec.core.network import Network
from edgec.tasks.protocol import Task


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together."""

    rank: int = 0
    size: int = 1


@dataclass(frozen=True)
class Env:
    """Everything that a stage is given besides its config and the network."""

    task: Task
    stage: str  # name of the stage in the recipe
    events: Events
    dense: Network  # the network before compression: default teacher and baseline
    scratch: Path  # survives an interruption; for checkpoints of this very stage
    out: Path  # files written here become part of the stage's result
    inputs: Path | None = None  # files that the export before this stage made
    device: str = "cpu"
    seed: int = 0
    process_group: ProcessGroup = field(default_factory=ProcessGroup)
    allow_code: bool = False
