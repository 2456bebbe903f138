"""The base of everything that is written to disk and read back: frozen, closed pydantic models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A record that never changes after it was made and refuses unknown keys, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_max_length=4096)


def json_object(given: Any) -> dict[str, Any] | None:
    """A copy of what a validator in mode "before" was given, where that is a JSON object; None where it is a model."""
    return dict(cast("Mapping[str, Any]", given)) if isinstance(given, Mapping) else None
