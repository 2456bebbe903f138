"""How far outputs are from those that they should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgec.core.session import Array

# Least signal-to-noise ratio, in dB, of an artifact's outputs against its golden ones, by precision.
LEAST_DB: Mapping[str, float] = {"fp32": 60.0, "fp16": 25.0, "int8": 15.0}


def snr_db(reference: Array, other: Array) -> float:
    """Signal-to-noise ratio of `other` against `reference`, in dB; 200 when they are equal."""
    noise = float(np.square(reference.astype(np.float64) - other.astype(np.float64)).sum())
    signal = float(np.square(reference.astype(np.float64)).sum())
    return 200.0 if noise == 0 else float(10 * np.log10(max(signal, 1e-30) / noise))


def worst_snr_db(references: Sequence[Array], others: Sequence[Array]) -> float:
    """The lowest signal-to-noise ratio over a network's outputs, in dB."""
    return min(snr_db(a, b) for a, b in zip(references, others, strict=True))
