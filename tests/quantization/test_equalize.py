"""Equal channels: the network computes what it did, channels fill their ranges, what is in between is respected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgec.core.errors import StageError
from edgec.core.network import Network
from edgec.onnx.graph import convolutions
from edgec.onnx.parity import snr_db
from edgec.quantization.calibration import calibrate, magnitudes
from edgec.quantization.equalize import equalized, factors, tied_channels
from edgec.quantization.placement import place_pairs
from edgec.quantization.qdq_graph import insert_pairs

Run = Callable[..., list[np.ndarray]]


class Uneven(nn.Module):
    """Leaky convolutions, a sum, a concatenation, a gate from mean and deviation; channels of very different size."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = (
            nn.Conv2d(3, 8, 3, 1, 1),
            nn.Conv2d(8, 8, 3, 1, 1),
            nn.Conv2d(8, 8, 1),
        )
        self.gate, self.last = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 3, 1)
        with torch.no_grad():
            for layer in (self.one, self.two, self.three):
                size = torch.logspace(-1.5, 1, 8)
                layer.weight *= size[:, None, None, None]
                layer.bias *= size  # type: ignore[operator]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        a = nn.functional.leaky_relu(self.one(x), 0.1)
        b = self.two(a) + a
        c = torch.cat((b, nn.functional.leaky_relu(self.three(b), 0.1)), 1)
        pooled = c.mean((2, 3), keepdim=True) + c.std((2, 3), correction=0, keepdim=True)
        return [self.last(c * self.gate(pooled).sigmoid())]


@pytest.fixture(scope="module")
def uneven(exported: Callable[..., Any]) -> Any:
    torch.manual_seed(3)
    return exported(Uneven())


def largest(made: Any) -> dict[str, np.ndarray]:
    return magnitudes(made.model, list(place_pairs(made.model).source), made.images)


def test_the_network_computes_the_same(uneven: Any, run: Run) -> None:
    by_layer = factors(uneven.model, largest(uneven))
    made = equalized(uneven.model, by_layer)
    assert snr_db(run(uneven.model, uneven.images)[0], run(made, uneven.images)[0]) > 100
    changed = {layer for layer, both in by_layer.items() if max(both["out"] + both["in"]) > 1}
    assert changed == {"one", "two", "three", "gate", "last"}


def test_no_range_grows_and_channels_fill_theirs(uneven: Any) -> None:
    before = largest(uneven)
    made = equalized(uneven.model, factors(uneven.model, before))
    after = magnitudes(made, list(place_pairs(uneven.model).source), uneven.images)
    for name, reached in after.items():
        assert reached.max() <= before[name].max() * 1.001
    (name,) = [n.output[0] for n in uneven.model.graph.node if n.op_type == "Concat"]
    assert np.median(after[name] / after[name].max()) > 3 * np.median(before[name] / before[name].max())


def test_int8_is_nearer_to_float(uneven: Any, run: Run) -> None:
    reference = run(uneven.model, uneven.images)[0]
    made = equalized(uneven.model, factors(uneven.model, largest(uneven)))
    ranges = calibrate(made, list(place_pairs(made).source), uneven.images, "minmax")
    before = snr_db(reference, run(insert_pairs(uneven.model, uneven.ranges), uneven.images)[0])
    assert snr_db(reference, run(insert_pairs(made, ranges), uneven.images)[0]) > before + 2


def test_channels_of_a_sum_go_together_and_outputs_stay(uneven: Any) -> None:
    tensors, ends = tied_channels(uneven.model)
    assert ends["one"]["out"] == ends["two"]["out"] == ends["two"]["in"] == ends["three"]["in"]
    assert ends["last"]["in"] == ends["gate"]["in"] == ends["one"]["out"] + ends["three"]["out"]
    assert set(ends["gate"]["out"]) == set(ends["last"]["out"]) == {0}  # a sigmoid, the network's output
    assert len(tensors) > 5


def test_what_is_not_homogeneous_fixes_its_channels(exported: Callable[..., Any], run: Run) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Mish(), nn.Conv2d(4, 4, 1), nn.ReLU6(), nn.Conv2d(4, 2, 1))
    made = exported(net)
    assert all(max(e["in"] + e["out"]) == 1 for e in factors(made.model, largest(made)).values())


def test_a_whole_detector_stays_the_same(tiny: Any, run: Run) -> None:
    made = equalized(tiny.model, factors(tiny.model, largest(tiny)))
    for a, b in zip(run(tiny.model, tiny.images), run(made, tiny.images), strict=True):
        assert snr_db(a, b) > 90


def test_imdn_stays_the_same_and_leaves_its_gates_in_float(exported: Callable[..., Any], run: Run) -> None:
    net = Network.initial("imdn", {"scale": 2, "features": 16, "blocks": 1}, seed=1).build()
    made = exported(net)
    even = equalized(made.model, factors(made.model, largest(made)))
    assert snr_db(run(made.model, made.images)[0], run(even, made.images)[0]) > 90
    left = set(convolutions(insert_pairs(made.model, made.ranges)))
    assert left == {"blocks.0.cca.reduce", "blocks.0.cca.expand"}


def test_factors_of_another_network_are_refused(uneven: Any, exported: Callable[..., Any]) -> None:
    by_layer = factors(uneven.model, largest(uneven))
    by_layer["two"]["out"] = by_layer["two"]["out"][:-1]
    with pytest.raises(StageError, match=r"two has 8 channels in and 8 out.*quantize stage again"):
        equalized(uneven.model, by_layer)
