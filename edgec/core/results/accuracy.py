"""An accuracy: what `Task.evaluate` measured, over all images, by named set, by class and by image."""

from __future__ import annotations

from math import isfinite, nan
from typing import Any

from pydantic import ConfigDict, Field, model_serializer, model_validator

from edgec.core.frozen import Frozen, json_object

Values = dict[str, float]
NOT_METRICS = ("images", "objects")  # counts that stand beside the metrics


class Accuracy(Frozen):
    """Metrics by name. A network that diverged may reach NaN or infinity, which JSON holds as null.

    In JSON it is flat: "map50", "ap50/stop" (class), "psnr/set5" (set), "psnr/set5/baby" (image).
    """

    model_config = ConfigDict(allow_inf_nan=True)

    values: Values = Field(default_factory=dict)  # over all images
    counts: dict[str, int] = Field(default_factory=dict)  # what was measured on: "images", "objects"
    by_class: dict[str, Values] = Field(default_factory=dict)  # metric -> class -> value
    by_set: dict[str, Values] = Field(default_factory=dict)  # metric -> set -> value
    by_image: dict[str, dict[str, Values]] = Field(default_factory=dict)  # metric -> set -> image -> value

    def __getitem__(self, metric: str) -> float:
        return self.values[metric]

    def get(self, metric: str) -> float | None:
        """None where it was not measured, or is not a number."""
        value = self.values.get(metric)
        return value if value is not None and isfinite(value) else None

    @model_validator(mode="before")
    @classmethod
    def _of_flat(cls, given: Any) -> Any:
        """Read the flat form. A part behind a metric that also stands alone is a set, else a class."""
        flat = json_object(given)
        if flat is None or set(flat) <= set(cls.model_fields):
            return given
        read: dict[str, Any] = {"values": {}, "counts": {}, "by_class": {}, "by_set": {}, "by_image": {}}
        for key, value in flat.items():
            metric, *parts = key.split("/", 2)
            value = nan if value is None else value
            if key in NOT_METRICS:
                read["counts"][key] = int(value)
            elif not parts:
                read["values"][key] = value
            elif len(parts) == 2:
                read["by_image"].setdefault(metric, {}).setdefault(parts[0], {})[parts[1]] = value
            else:
                kind = "by_set" if metric in flat else "by_class"
                read[kind].setdefault(metric, {})[parts[0]] = value
        return read

    @model_serializer
    def flat(self) -> dict[str, float | int | None]:
        """The flat form that reports and stored results hold."""
        stored: dict[str, float | int] = {**self.values, **self.counts}
        for parts in (self.by_class, self.by_set):
            stored |= {
                f"{metric}/{part}": value for metric, each in parts.items() for part, value in each.items()
            }
        for metric, sets in self.by_image.items():
            for name, images in sets.items():
                stored |= {f"{metric}/{name}/{image}": value for image, value in images.items()}
        return {key: value if isfinite(value) else None for key, value in stored.items()}
