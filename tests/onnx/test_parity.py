"""Signal-to-noise ratios: in decibels, and the same here as in the probe, which runs alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec.onnx.parity import snr_db, worst_snr_db
from edgec.probe.golden import OpenedArtifact, distance


def test_snr_counts_in_decibels() -> None:
    signal = np.full(100, 10.0)
    assert snr_db(signal, signal) == 200
    assert snr_db(signal, signal + 1) == pytest.approx(20)
    assert snr_db(signal, signal * 1.1) == pytest.approx(20)
    assert snr_db(signal, np.zeros(100)) == pytest.approx(0)


@pytest.mark.parametrize("noise", [0.0, 1e-6, 0.01, 1.0, 100.0])
def test_the_probe_says_the_same(tmp_path: Path, noise: float) -> None:
    rng = np.random.default_rng(0)
    x, wanted = (
        rng.random((1, 3, 8, 8), dtype=np.float32),
        [rng.random((1, 4), dtype=np.float32) for _ in range(2)],
    )
    reached = [w + noise * rng.standard_normal(w.shape).astype(np.float32) for w in wanted]
    golden = tmp_path / "golden.npz"
    np.savez(golden, allow_pickle=False, images=x, a=wanted[0], b=wanted[1])
    found = distance(OpenedArtifact(lambda: reached, {"images": x}, ["a", "b"], {}), golden)
    assert found["snr_db"] == round(worst_snr_db(wanted, reached), 2)
