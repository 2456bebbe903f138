"""Reading image files safely, whatever they claim to be."""

from __future__ import annotations

import io
import threading
import warnings
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from edgec.core.errors import DataError, Problem

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")  # of images, in any case
MAX_PIXELS = 64_000_000  # a small file can claim gigabytes
MAX_BYTES = 256 * 1024 * 1024
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")  # EPS, for one, would start Ghostscript
_QUIET = threading.Lock()  # warnings.catch_warnings is not safe in threads


def read_image(path: Path) -> np.ndarray:
    """An image file as RGB uint8 [h, w, 3], as stored (no EXIF rotation).

    Raises DataError when it is missing, no image, truncated or too large.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(
                [Problem(str(path), f"{path.stat().st_size} bytes", f"at most {MAX_BYTES} are read")]
            )
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            [Problem(str(path), f"cannot be read ({error.strerror})", "check the path")]
        ) from None
    return decode_image(data, str(path))


def is_image(path: Path) -> bool:
    """Whether a file is an image by its suffix."""
    return path.suffix.lower() in SUFFIXES


def image_named(stem: Path) -> Path | None:
    """The image file whose path without a suffix is `stem`, or None."""
    names = (stem.name + cased for suffix in SUFFIXES for cased in (suffix, suffix.upper(), suffix.title()))
    return next((path for name in names if (path := stem.with_name(name)).exists()), None)


def decode_image(data: bytes, place: str) -> np.ndarray:
    """Encoded bytes as RGB uint8 [h, w, 3]."""
    try:
        with _QUIET, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own limit on pixels; ours follows
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    message = f"{width} x {height} pixels; at most {MAX_PIXELS} are read"
                    raise DataError([Problem(place, message, "scale it down")])
                if image.mode in ("I;16", "I;16B", "I;16L", "I"):
                    array = np.asarray(image).astype(np.float32)
                    grey = np.clip(array / 256, 0, 255).astype(np.uint8)
                    return np.repeat(grey[:, :, None], 3, 2)
                return np.array(image.convert("RGB"))
    except UnidentifiedImageError:
        raise DataError([Problem(place, "is not an image", "replace or remove it")]) from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError([Problem(place, f"is a broken image ({error})", "replace or remove it")]) from None


@cache
def photograph(name: str) -> np.ndarray:
    """A photograph that ships with scikit-image, RGB uint8 [h, w, 3]."""
    data = (resources.files("skimage") / "data" / name).read_bytes()
    return decode_image(data, f"skimage/data/{name}")


def alpha_and_grey(path: Path) -> tuple[np.ndarray | None, bool]:
    """The alpha channel uint8 [h, w] of an image that `read_image` could read, or None; whether it has no colour."""
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path, formats=FORMATS) as image:
            grey = image.mode in ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")
            clear = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
            return (np.array(image.convert("RGBA"))[:, :, 3] if clear else None), grey


def inside(root: Path, relative: str, place: str) -> Path:
    """A path under `root`. Raises DataError when it escapes, by .., an absolute path or a link."""
    path = root / relative
    try:
        escapes = not path.resolve().is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError):
        escapes = True
    if escapes or "\0" in relative:
        raise DataError(
            [
                Problem(
                    place, f"{relative!r} is outside the data root {root}", "keep the files inside the root"
                )
            ]
        )
    return path
