"""PSNR and SSIM as the papers have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec.core.errors import NetworkError
from edgec.images.bicubic import bicubic_up, cropped
from edgec.images.reading import read_image
from edgec.tasks.superres.metrics import BEST_PSNR, luma, psnr_y, score, shaved, ssim, summary

# bicubic interpolation on Set5, as published with every method since SRCNN
BICUBIC = {2: (33.66, 0.9299), 3: (30.39, 0.8682), 4: (28.42, 0.8104)}


@pytest.mark.data
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_on_set5_has_the_published_figures(shared_data: Path, scale: int) -> None:
    folder = shared_data / "sr" / "eval" / "Set5"
    scores = []
    for path in sorted((folder / "HR").iterdir()):
        output = bicubic_up(read_image(folder / f"LR_x{scale}" / path.name), scale)
        scores.append(score("set5", path.stem, output, cropped(read_image(path), scale), scale))
    found = summary(scores)
    assert found.by_set["psnr"]["set5"] == pytest.approx(BICUBIC[scale][0], abs=0.02)
    assert found.by_set["ssim"]["set5"] == pytest.approx(BICUBIC[scale][1], abs=0.001)
    assert found["psnr"] == found.by_set["psnr"]["set5"]


def test_luma_of_black_white_and_the_primaries() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_allclose(luma(colours)[0], [16, 235, 81.481, 144.553, 40.966], atol=1e-9)


def test_floats_count_as_the_bytes_they_round_to() -> None:
    rng = np.random.default_rng(3)
    truth, output = rng.integers(0, 256, (2, 20, 20, 3), dtype=np.uint8)
    nearly = output / 255 + rng.uniform(-0.4, 0.4, output.shape) / 255  # passes 0 and 1 here and there
    assert score("s", "a", nearly.astype(np.float32), truth / 255, 2) == score("s", "a", output, truth, 2)
    assert psnr_y(nearly, truth, 2) == psnr_y(output, truth, 2) == score("s", "a", output, truth, 2).psnr
    assert (
        ssim(*(shaved(luma(image), 2) for image in (nearly, truth))) == score("s", "a", output, truth, 2).ssim
    )


def test_images_of_two_sizes_are_not_compared() -> None:
    with pytest.raises(NetworkError, match=r"\(20, 1, 3\).*factor"):  # numpy would broadcast it
        psnr_y(np.zeros((20, 1, 3), np.uint8), np.zeros((20, 20, 3), np.uint8), 0)


def test_a_known_error() -> None:
    truth = np.full((20, 20, 3), 100, np.uint8)
    output = truth + np.uint8(10)  # 10 grey levels are 10 * 219 / 255 of luma
    expected = 10 * np.log10(255**2 / (10 * 219 / 255) ** 2)
    assert psnr_y(output, truth, 2) == pytest.approx(expected)


def test_the_border_does_not_count() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
    output = truth.copy()
    output[:2], output[-2:], output[:, :2], output[:, -2:] = 0, 0, 0, 0
    assert psnr_y(output, truth, 2) == BEST_PSNR
    assert psnr_y(output, truth, 1) < 30
    assert shaved(truth, 12).shape == truth.shape  # nothing would be left


def test_equal_images_have_finite_figures() -> None:
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    best = score("s", "a", image, image, 2)
    assert (best.psnr, best.psnr8) == (BEST_PSNR, BEST_PSNR)
    assert best.ssim == pytest.approx(1)
    assert ssim(np.zeros((4, 4)), np.zeros((4, 4))) == 1  # smaller than the window


def test_sets_and_images_are_distinguished() -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    near = np.clip(truth.astype(int) + 3, 0, 255).astype(np.uint8)
    far = np.clip(truth.astype(int) + 30, 0, 255).astype(np.uint8)
    a, b, c = score("x", "a", near, truth, 0), score("x", "b", far, truth, 0), score("y", "a", far, truth, 0)
    found = summary([a, b, c])
    assert found["psnr"] == pytest.approx((a.psnr + b.psnr + c.psnr) / 3)
    assert found.by_set["psnr"]["x"] == pytest.approx((a.psnr + b.psnr) / 2)
    assert found.by_set["psnr"]["y"] == found.by_image["psnr"]["y"]["a"] == c.psnr
    assert c.psnr < found.by_image["psnr"]["x"]["a"]
