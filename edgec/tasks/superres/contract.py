"""Using a super-resolution network by its contract alone: image in, larger image out."""

from __future__ import annotations

from collections.abc import Mapping as Contract
from typing import Any

import numpy as np

from edgec.env import Predictor
from edgec.tasks.superres.degrade import bicubic_up


def prepare(low: np.ndarray, contract: Contract[str, Any]) -> np.ndarray:
    """A low-resolution image uint8 [h, w, 3] as the network takes it: float32 [3, h, w]; enlarged if it wants so."""
    if contract["enlarged"]:
        low = bicubic_up(np.ascontiguousarray(low), contract["scale"])
    return np.ascontiguousarray(low.transpose(2, 0, 1), np.float32) * np.float32(contract["input"]["scale"])


def image_of(output: np.ndarray, contract: Contract[str, Any]) -> np.ndarray:
    """An output float32 [3, h, w] as an image uint8 [h, w, 3]: clipped, rounded."""
    values = np.clip(np.round(output / np.float32(contract["input"]["scale"])), 0, 255)
    return np.ascontiguousarray(values.astype(np.uint8).transpose(1, 2, 0))


def padded(x: np.ndarray, multiple: int) -> np.ndarray:
    """An input [3, h, w] whose sides are multiples of `multiple`: mirrored at the bottom and the right."""
    missing = [-side % multiple for side in x.shape[1:]]
    return np.pad(x, ((0, 0), (0, missing[0]), (0, missing[1])), mode="symmetric") if any(missing) else x


def upscale_whole(predictor: Predictor, low: np.ndarray) -> np.ndarray:
    """The high-resolution image uint8 of a low-resolution one uint8 [h, w, 3], by a network that takes any size."""
    contract = predictor.contract
    x = prepare(low, contract)
    batch = np.repeat(padded(x, contract["multiple"])[None], predictor.batch or 1, axis=0)
    output = predictor.run(batch)[0][0]
    height, width = (side * contract["factor"] for side in x.shape[1:])
    return image_of(output[:, :height, :width], contract)
