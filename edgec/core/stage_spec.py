"""What a stage is to recipes and to the pipeline: a row of the table of stages, and the base of its config."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from edgec.core.frozen import Frozen


class StageConfig(Frozen):
    """The config of a stage, as the recipe has it; a kind of stage has its own subclass with the field `kind`.

    The methods say what the run must know of a stage before it; the answers here are those of most stages.
    """

    def teacher_source(self) -> Literal["dense"] | Path | None:
        """Whom the stage learns from: the network before compression, or that of a folder; None: from nobody."""
        return None

    def modules(self) -> tuple[str, ...]:
        """Modules whose code is behind the result, beside that of the stage's function and what it imports."""
        return ()

    def libraries(self) -> tuple[str, ...]:
        """Distributions whose arithmetic is in the result, beside those that all stages use."""
        return ()

    def measured_on(self) -> tuple[str, ...]:
        """The devices that the stage needs, by name or address."""
        return ()

    def details(self) -> str:
        """What a plan says of the stage behind its kind: ", 5 epochs"."""
        return ""


@dataclass(frozen=True)
class StageSpec:
    """One kind of stage. Functions and types are named `package.module:name` and imported when they are needed.

    `function(config, network, env)` gives the network and a result of the type `result`. Raises TypeError for a config
    that is no StageConfig.
    """

    name: str  # `kind` in recipes
    config: type[StageConfig]  # with the field `kind`
    function: str
    result: str = "edgec.core.results.other:CustomResult"
    plan: str = ""  # (config, place, network, task, shaped) -> lines for --dry-run, see `edgec.run.plan`
    trains: bool = False  # every process of a distributed training takes part
    compresses: bool = True  # the network before the first one that does is the dense one
    reshapes: bool = True  # the network that comes out may have another structure
    cached: bool = True  # its result is taken from the store
    dense: bool = False  # its result depends on the network before compression
    reads_artifacts: bool = False  # its result depends on the files of the export before it
    # what it is for: the network that comes out, or files: artifacts, or those artifacts in the formats of other runtimes
    gives: Literal["network", "artifacts", "packages"] = "network"

    def __post_init__(self) -> None:
        config = cast("type", self.config)  # a package's own may be anything
        if not issubclass(config, StageConfig):
            raise TypeError(f"stage {self.name!r}: its config {config.__name__} must derive from StageConfig")
