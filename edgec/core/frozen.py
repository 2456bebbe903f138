"""The base of everything that is written to disk and read back: frozen, closed pydantic models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Frozen(BaseModel):
    """A record that never changes after it was made and refuses unknown keys, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_max_length=4096)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


# A measured number that may come out as none, such as the loss of a training that diverged: NaN and infinity become None.
Figure = Annotated[float | None, BeforeValidator(_finite)]


def json_object(given: Any) -> dict[str, Any] | None:
    """A copy of what a validator in mode "before" was given, where that is a JSON object; None where it is a model."""
    return dict(cast("Mapping[str, Any]", given)) if isinstance(given, Mapping) else None
