"""What a data format of detection is: what a `DataSpec` of the task names as its reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgec.core.errors import Problem
from edgec.tasks.detection.samples import Raw, Sample


@dataclass(frozen=True)
class Found:
    """What is in a split. Images as files give them are checked afterwards; ready samples are taken as they are."""

    raws: Sequence[Raw] = ()
    samples: Sequence[Sample] = ()
    problems: Sequence[Problem] = ()


@dataclass(frozen=True)
class DetectionFormat:
    """`read(data, split)` gives what is in a split that the recipe names; `classes(data)` the names of the classes."""

    read: Callable[[Any, str], Found]
    classes: Callable[[Any], tuple[str, ...]]
