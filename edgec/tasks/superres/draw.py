"""Pictures for the report: crops side by side with their PSNR, and maps of differences with their scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edgec.tasks.superres.metrics import luma, psnr_y

SIDE = 200  # pixels of a panel
HEAD, FOOT = 22, 20  # pixels above and below it
GAP = 4
FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Panel:
    """An image [h, w, 3] uint8 with a line above and a line below it."""

    image: np.ndarray
    above: str
    below: str


def compared(made: Mapping[str, np.ndarray], truth: np.ndarray, tiles: np.ndarray, scale: int) -> list[Panel]:
    """The panels of one image: what each made of it beside the truth, at the place where the last one errs most.

    `tiles` is what the last one makes of it in tiles; all images are RGB uint8 [h, w, 3] of one size.
    """
    last = list(made.values())[-1]
    top, left, side = worst_place(last, truth, SIDE // 2)

    def crop(image: np.ndarray) -> np.ndarray:
        return image[top : top + side, left : left + side]

    panels = [
        Panel(crop(image), name, f"{psnr_y(image, truth, scale):.2f} dB whole")
        for name, image in made.items()
    ]
    panels.append(Panel(crop(truth), "original", f"{side} x {side} pixels"))
    error, most = difference_map(crop(last), crop(truth))
    panels.append(Panel(error, "error of the last", f"bright: {most:.0f} of 255"))
    seams, most = difference_map(last, tiles)
    panels.append(Panel(seams, "tiles against whole", f"bright: {most:.0f} of 255"))
    return panels


def worst_place(output: np.ndarray, truth: np.ndarray, side: int) -> tuple[int, int, int]:
    """(top, left, side) of the square in which an output is farthest from the truth, both RGB uint8 [h, w, 3]."""
    side = min(side, *truth.shape[:2])
    error = np.square(luma(output) - luma(truth))
    sums = np.pad(error.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    window = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(window.argmax()), window.shape)
    return int(top), int(left), side


def difference_map(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, float]:
    """|a - b| of two RGB uint8 images as colours [h, w, 3], dark for 0, and the grey levels that the brightest stands for."""
    levels = np.abs(a.astype(np.int16) - b).max(2)
    top = float(max(levels.max(), 1))
    colours = cv2.applyColorMap(np.round(levels * (255 / top)).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), top


def panels_in_a_row(panels: Sequence[Panel]) -> np.ndarray:
    """RGB uint8 [HEAD + SIDE + FOOT, ...]: images of one height, pixels kept square and sharp."""
    columns: list[np.ndarray] = []
    for panel in panels:
        height, width = panel.image.shape[:2]
        shown = max(1, round(width * SIDE / height))
        how = cv2.INTER_NEAREST if height <= SIDE else cv2.INTER_AREA
        image = cv2.resize(panel.image, (shown, SIDE), interpolation=how)
        column = np.full(
            (HEAD + SIDE + FOOT, max(shown, _width(panel.above), _width(panel.below)), 3), 32, np.uint8
        )
        column[HEAD : HEAD + SIDE, :shown] = image
        for text, y in ((panel.above, HEAD - 7), (panel.below, HEAD + SIDE + FOOT - 6)):
            cv2.putText(column, text, (4, y), FONT, 0.4, (240, 240, 240), 1, cv2.LINE_AA)
        columns += [column, np.full((len(column), GAP, 3), 255, np.uint8)]
    return np.concatenate(columns[:-1], 1)


def _width(text: str) -> int:
    return cv2.getTextSize(text, FONT, 0.4, 1)[0][0] + 8


def encode_png(image: np.ndarray) -> bytes:
    """An RGB uint8 image as PNG bytes: JPEG would hide what the pictures are to show."""
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"an image of shape {image.shape} cannot be encoded as PNG")
    return data.tobytes()
