"""A graph in half precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgec.onnx.export import to_onnx
from edgec.onnx.fp16 import to_fp16
from edgec.onnx.graph import initializers, validate
from edgec.onnx.parity import snr_db
from edgec.onnx.session import OnnxSession


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    convs = [nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Conv2d(32, 8, 1)]
    return nn.Sequential(*convs).eval()


def test_it_is_valid_half_the_size_and_near(net: nn.Module) -> None:
    images = np.random.default_rng(2).random((2, 3, 32, 32), dtype=np.float32)
    model = to_onnx(net, torch.zeros(1, 3, 32, 32), ["out"], dynamic_batch=True)
    before = model.SerializeToString()
    half = to_fp16(model)
    assert model.SerializeToString() == before
    validate(half)
    assert len(half.SerializeToString()) < 0.6 * len(before)
    assert all(a.dtype == np.float16 for a in initializers(half).values() if a.ndim == 4)
    with torch.no_grad():
        expected = net(torch.from_numpy(images)).numpy()
    (reached,) = OnnxSession(half.SerializeToString()).run({"images": images})
    assert reached.dtype == np.float32  # inputs and outputs stay
    assert snr_db(expected, reached) > 45
