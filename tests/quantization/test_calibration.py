"""Calibration against numpy, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgec.core.errors import StageError
from edgec.onnx.export import to_onnx
from edgec.quantization.calibration import MOMENTUM, calibrate, means_of
from edgec.quantization.placement import place_pairs


@pytest.fixture(scope="module")
def linear() -> tuple[nn.Module, Any]:
    """One convolution, whose output numpy can follow."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    return net, to_onnx(net, torch.zeros(1, 3, 64, 64), ["out"], dynamic_batch=True)


def values_of(net: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return net(torch.from_numpy(images)).numpy()


def test_minmax_takes_the_extremes(linear: Any, noise: np.ndarray) -> None:
    net, model = linear
    ranges = calibrate(model, ["images", "out"], noise, "minmax", batch=3)
    values = values_of(net, noise)
    assert ranges["0:out"] == pytest.approx((min(values.min(), 0), max(values.max(), 0)), abs=1e-5)
    assert ranges["images"] == (0.0, pytest.approx(noise.max()))


def test_percentile_cuts_both_tails(linear: Any, noise: np.ndarray) -> None:
    net, model = linear
    ranges = calibrate(model, ["out"], noise, "percentile", percentile=98.0)
    values = values_of(net, noise)
    bin_width = float(values.max() - values.min()) / 2048
    low, high = np.quantile(values, (0.01, 0.99))
    assert ranges["0:out"][0] == pytest.approx(min(low, 0), abs=3 * bin_width)
    assert ranges["0:out"][1] == pytest.approx(max(high, 0), abs=3 * bin_width)


def test_percentile_100_is_minmax(linear: Any, noise: np.ndarray) -> None:
    _, model = linear
    whole = calibrate(model, ["out"], noise, "percentile", percentile=100.0)
    extremes = calibrate(model, ["out"], noise, "minmax")
    assert whole["0:out"] == pytest.approx(extremes["0:out"], abs=1e-6)


def test_mse_cuts_a_lone_outlier_and_errs_less_than_minmax(linear: Any, noise: np.ndarray) -> None:
    net, model = linear
    images = noise.copy()
    images[0, :, 0, 0] = 60.0  # one pixel far out
    cut = calibrate(model, ["out"], images, "mse")["0:out"]
    whole = calibrate(model, ["out"], images, "minmax")["0:out"]
    assert cut[1] - cut[0] < 0.9 * (whole[1] - whole[0])

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        values = values_of(net, images)
        return float(np.square(np.clip(np.round((values - low) / step), 0, 255) * step + low - values).mean())

    assert error(*cut) < error(*whole)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_every_method_holds_zero_and_does_not_depend_on_the_batch(
    tiny: Any, noise: np.ndarray, method: Any
) -> None:
    tensors = list(place_pairs(tiny.model).source)
    one = calibrate(tiny.model, tensors, noise, method, batch=1)
    all_at_once = calibrate(tiny.model, tensors, noise, method, batch=4)
    assert len(one) == len(tensors)
    for name, (low, high) in one.items():
        assert low <= 0 <= high
        assert low < high
        width = high - low
        assert all_at_once[name] == pytest.approx((low, high), abs=0.01 * width)


def test_progress_tells_every_pass(linear: Any, noise: np.ndarray) -> None:
    told: list[tuple[int, int]] = []
    calibrate(
        linear[1],
        ["out"],
        noise,
        "percentile",
        batch=2,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_empty_set_is_refused(linear: Any, noise: np.ndarray) -> None:
    with pytest.raises(StageError, match=r"empty; raise stages\.quantize\.images"):
        calibrate(linear[1], ["out"], noise[:0])


def test_constant_images_are_refused(linear: Any, noise: np.ndarray) -> None:
    with pytest.raises(StageError, match=r"constant on all calibration images: images.*real images"):
        calibrate(linear[1], ["images", "out"], np.zeros_like(noise))


def test_values_that_are_not_finite_are_refused(
    exported: Callable[..., Any], linear: Any, noise: np.ndarray
) -> None:
    images = noise.copy()
    images[3, 0, 0, 0] = np.inf
    with pytest.raises(StageError, match=r"not finite.*0:out.*weights"):
        calibrate(linear[1], ["out"], images, batch=1)


class Root(nn.Module):
    """Not a number on negative images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.sqrt(x))


@pytest.mark.parametrize("batch", [1, 4])
def test_not_a_number_in_a_late_image_is_refused(noise: np.ndarray, batch: int) -> None:
    model = to_onnx(Root().eval(), torch.zeros(1, 3, 64, 64), ["out"], dynamic_batch=True)
    images = noise.copy()
    images[3] *= -1
    with pytest.raises(StageError, match=r"not finite.*conv:out"):
        calibrate(model, ["images", "out"], images, batch=batch)


def test_a_dead_layer_is_named_as_in_the_network(noise: np.ndarray) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.LeakyReLU(0.1), nn.Conv2d(4, 4, 1)).eval()
    with torch.no_grad():
        net.get_parameter("0.weight").zero_()
        net.get_parameter("0.bias").fill_(1)
    model = to_onnx(net, torch.zeros(1, 3, 64, 64), ["out"], dynamic_batch=True)
    with pytest.raises(StageError, match=r"constant on all calibration images: .*0:out"):
        calibrate(model, list(place_pairs(model).source), noise)


def test_entropy_cuts_a_long_thin_tail(linear: Any, noise: np.ndarray) -> None:
    _, model = linear
    images = noise.copy()
    images[0, :, 0, 0] = 60.0
    cut = calibrate(model, ["out"], images, "entropy")["0:out"]
    whole = calibrate(model, ["out"], images, "minmax")["0:out"]
    assert cut[1] - cut[0] < 0.9 * (whole[1] - whole[0])


def test_a_moving_average_leans_on_later_batches(linear: Any, noise: np.ndarray) -> None:
    images = np.concatenate([noise[:1], noise[:1] * 3])
    low, high = calibrate(linear[1], ["images"], images, "moving_average", batch=1)["images"]
    assert low == 0
    assert high == pytest.approx(float(noise[:1].max()) * (1 + MOMENTUM * 2), rel=1e-5)


def test_means_by_channel(linear: Any, noise: np.ndarray) -> None:
    found = means_of(linear[1], ["images"], noise, batch=3)["images"]
    assert found == pytest.approx(noise.mean((0, 2, 3)), rel=1e-5)


@pytest.mark.parametrize("method", ["mse", "entropy"])
def test_few_bits_are_calibrated_for_their_own_levels(linear: Any, noise: np.ndarray, method: Any) -> None:
    """Sixteen levels are coarser than 256, so that cutting more costs less than rounding does."""
    _, model = linear
    eight, four = (calibrate(model, ["out"], noise, method, bits=bits)["0:out"] for bits in (8, 4))
    assert four[1] - four[0] < eight[1] - eight[0]
    assert calibrate(model, ["out"], noise, method)["0:out"] == eight


def test_mse_of_four_bits_errs_less_in_four_bits_than_mse_of_eight(linear: Any, noise: np.ndarray) -> None:
    net, model = linear
    values = values_of(net, noise)

    def error(cut: tuple[float, float]) -> float:
        step = (cut[1] - cut[0]) / 15
        rounded = np.clip(np.round((values - cut[0]) / step), 0, 15) * step + cut[0]
        return float(np.square(rounded - values).mean())

    eight, four = (calibrate(model, ["out"], noise, "mse", bits=bits)["0:out"] for bits in (8, 4))
    assert error(four) < error(eight)
