"""Where the network comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from edgec.recipe.base import Frozen


class NetworkSource(Frozen):
    """Where the network comes from: a shipped architecture, a Darknet cfg, or the user's own factory."""

    arch: str = Field(
        description="A shipped architecture (`edgec models` lists them), darknet, or the user's own `package.module:factory`, "
        "behind --allow-code."
    )
    args: dict[str, JsonValue] = Field(
        default={}, description="Arguments of the architecture, such as `width: 0.5`."
    )
    cfg: Path | None = Field(default=None, description="`arch: darknet`: the Darknet .cfg file.")
    weights: Path | None = Field(
        default=None,
        description="Trained weights: .safetensors, Darknet .weights, .pt or .pth (tensors only, nothing is unpickled), a "
        "network folder, or `edgec:NAME` for a file that edgec ships. None: random initialization.",
    )
    anchors: Literal["own", "kmeans"] = Field(
        default="own",
        description="Anchor boxes of a detector. own: those of the architecture. kmeans: clustered from the training boxes "
        "(arXiv 1612.08242).",
    )

    @model_validator(mode="after")
    def _cfg_with_darknet(self) -> Self:
        if (self.arch == "darknet") != (self.cfg is not None):
            raise ValueError("arch: darknet needs cfg, and only darknet has one")
        return self
