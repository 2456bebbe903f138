"""How far outputs are from those that they should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgec.core.session import Array

# Least signal-to-noise ratios of an artifact's outputs, in dB, by precision. Against torch's, when it is exported: below it
# the graph computes something else. int8 is not bounded there: what rounding costs is measured as accuracy.
LEAST_DB_TO_TORCH: Mapping[str, float] = {"fp32": 70.0, "fp16": 25.0}
# Against its golden outputs, on a device or converted for another runtime.
LEAST_DB_TO_GOLDEN: Mapping[str, float] = {"fp32": 60.0, "fp16": 25.0, "int8": 15.0}


def snr_db(reference: Array, other: Array) -> float:
    """Signal-to-noise ratio of `other` against `reference`, in dB; 200 when they are equal.

    `edgec.probe.golden.distance` says the same on a device, where this module is not.
    """
    noise = float(np.square(reference.astype(np.float64) - other.astype(np.float64)).sum())
    signal = float(np.square(reference.astype(np.float64)).sum())
    return 200.0 if noise == 0 else float(10 * np.log10(max(signal, 1e-30) / noise))


def worst_snr_db(references: Sequence[Array], others: Sequence[Array]) -> float:
    """The lowest signal-to-noise ratio over a network's outputs, in dB."""
    return min(snr_db(a, b) for a, b in zip(references, others, strict=True))
