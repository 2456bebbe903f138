"""Where the network comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import JsonValue, model_validator

from edgec.recipe.base import Frozen


class NetworkSource(Frozen):
    """Where the network comes from: a shipped architecture, a Darknet cfg, or the user's own factory."""

    arch: str  # "yolov4_tiny", "yolov4", "darknet", or "package.module:factory" with --allow-code
    args: dict[str, JsonValue] = {}
    cfg: Path | None = None  # arch: darknet
    weights: Path | None = None  # .safetensors, .weights (Darknet), .pt/.pth (weights_only), a network folder
    anchors: Literal["own", "kmeans"] = "own"

    @model_validator(mode="after")
    def _cfg_with_darknet(self) -> Self:
        if (self.arch == "darknet") != (self.cfg is not None):
            raise ValueError("arch: darknet needs cfg, and only darknet has one")
        return self
