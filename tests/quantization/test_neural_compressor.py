"""Calibration by Neural Compressor; needs the package, which is an extra."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

from edgec.core.errors import Missing
from edgec.core.network import Network
from edgec.core.norms import fold_norms
from edgec.onnx.export import to_onnx
from edgec.onnx.parity import snr_db
from edgec.onnx.session import OnnxSession
from edgec.quantization.calibration import calibrate
from edgec.quantization.neural_compressor import tuned
from edgec.quantization.placement import place_pairs
from edgec.quantization.qdq_graph import insert_pairs

EXAMPLE = torch.zeros(1, 3, 64, 64)
HERE = find_spec("neural_compressor") is not None


def call(tiny: Any, net: torch.nn.Module, evaluate: Any) -> Any:
    tensors = list(place_pairs(tiny.model).source)
    return tuned(net, tiny.model, tensors, tiny.images, EXAMPLE, evaluate, 0.01, None, 2)


@pytest.mark.runtimes
@pytest.mark.skipif(not HERE, reason="neural-compressor is not installed")
@pytest.mark.filterwarnings("ignore")
def test_its_ranges_serve_the_int8_graph(tiny: Any) -> None:
    net = fold_norms(Network.initial("yolov4_tiny", {"classes": 3, "width": 0.25}, seed=1).build(), EXAMPLE)
    images = tiny.images
    model = to_onnx(net, EXAMPLE, ["head0", "head1"], dynamic_batch=True)
    with torch.no_grad():
        wanted = [o.numpy() for o in net(torch.from_numpy(images))]
    scores: list[float] = []

    def evaluate(run: Any) -> float:
        scores.append(min(snr_db(a, b) for a, b in zip(wanted, run(images), strict=True)))
        return scores[-1]

    tensors = list(place_pairs(model).source)
    ranges, told = tuned(net, model, tensors, images, EXAMPLE, evaluate, 0.01, None, 2)
    assert [row.observer for row in told.tried] == ["minmax", "kl"]
    assert told.ranges == len(ranges) >= 15
    low, high = ranges["images"]
    assert (low, high) == pytest.approx((0, float(images.max())), abs=0.1)
    whole = {**calibrate(model, tensors, images, "minmax"), **ranges}
    reached = OnnxSession(insert_pairs(model, whole).SerializeToString()).run({"images": images})
    assert min(snr_db(a, b) for a, b in zip(wanted, reached, strict=True)) > 20


def test_it_says_how_to_install_it(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "neural_compressor", None)
    monkeypatch.setitem(sys.modules, "neural_compressor.torch.quantization", None)
    monkeypatch.delenv("LOGLEVEL", raising=False)
    with pytest.raises(Missing, match=r"pip install 'edgec\[neural-compressor\]'"):
        call(tiny, torch.nn.Identity(), lambda run: float(np.nan))
    assert "LOGLEVEL" not in os.environ
