"""PSNR and SSIM as super-resolution papers compute them: on the luma of ITU-R BT.601, without the border."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from skimage.metrics import structural_similarity

from edgec.core.errors import NetworkError
from edgec.core.results.accuracy import Accuracy

BEST_PSNR = 100.0  # dB, reported for identical images, whose ratio is infinite
SSIM_WINDOW = 11  # pixels, of the Gaussian


@dataclass(frozen=True)
class Score:
    """How near one image came. `psnr8` and `ssim8` are on luma rounded to 8 bits."""

    set: str
    image: str
    psnr: float
    ssim: float
    psnr8: float
    ssim8: float


def eight_bits(image: np.ndarray) -> np.ndarray:
    """An image, uint8 or float with white as 1, as uint8: clipped and rounded."""
    if not np.issubdtype(image.dtype, np.floating):
        return image
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def luma(image: np.ndarray) -> np.ndarray:
    """Y of an RGB image [h, w, 3], rounded to `eight_bits` first; float64 [h, w] in 16..235."""
    return eight_bits(image).astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255 + 16


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two arrays in 0..255, in dB."""
    error = float(np.mean(np.square(a.astype(np.float64) - b)))
    return BEST_PSNR if error == 0 else min(BEST_PSNR, 10 * float(np.log10(255**2 / error)))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity of two arrays [h, w] in 0..255 (Wang et al. 2004): Gaussian of sigma 1.5."""
    if min(a.shape) < SSIM_WINDOW:
        return float(np.array_equal(a, b))  # no window fits
    return float(
        structural_similarity(
            a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def shaved(image: np.ndarray, border: int) -> np.ndarray:
    """The image without `border` pixels at each side; whole when nothing would be left."""
    if min(image.shape[:2]) <= 2 * border:
        return image
    return image[border : image.shape[0] - border, border : image.shape[1] - border]


def psnr_y(output: np.ndarray, truth: np.ndarray, shave: int) -> float:
    """PSNR in dB on float luma of two RGB images [h, w, 3], uint8 or float in 0..1, without `shave` border pixels."""
    return psnr(*_lumas(output, truth, shave))


def _lumas(output: np.ndarray, truth: np.ndarray, shave: int) -> tuple[np.ndarray, np.ndarray]:
    if output.shape != truth.shape:
        raise NetworkError(
            f"an output of shape {output.shape} is compared with an image of {truth.shape}; check the network's factor"
        )
    return shaved(luma(output), shave), shaved(luma(truth), shave)


def score(set_name: str, image: str, output: np.ndarray, truth: np.ndarray, shave: int) -> Score:
    """All figures of one image. `output` and `truth` are RGB [h, w, 3] of one size, uint8 or float in 0..1."""
    a, b = _lumas(output, truth, shave)
    a8, b8 = np.round(a), np.round(b)
    return Score(set_name, image, psnr(a, b), ssim(a, b), psnr(a8, b8), ssim(a8, b8))


def summary(scores: Iterable[Score]) -> Accuracy:
    """Means over all images (psnr, ssim, psnr8, ssim8), psnr and ssim over each set, and of each image."""
    listed = list(scores)
    values = {n: float(np.mean([getattr(s, n) for s in listed])) for n in ("psnr", "ssim", "psnr8", "ssim8")}
    sets = {name: [s for s in listed if s.set == name] for name in dict.fromkeys(s.set for s in listed)}
    return Accuracy(
        values=values,
        by_set={
            n: {name: float(np.mean([getattr(s, n) for s in mine])) for name, mine in sets.items()}
            for n in ("psnr", "ssim")
        },
        by_image={
            "psnr": {name: {s.image: s.psnr for s in mine} for name, mine in sets.items()},
            "ssim": {name: {s.image: s.ssim for s in mine} for name, mine in sets.items()},
        },
    )
