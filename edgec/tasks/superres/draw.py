"""Pictures for the report: crops side by side with their PSNR, and maps of differences with their scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edgec.tasks.superres.metrics import luma, psnr_y
from edgec.tiles.crops import Plan

SIDE = 196  # pixels of a panel: six fit into the report's page without resizing
HEAD, FOOT = 22, 20  # pixels above and below it
GAP = 4
BAR = 48  # pixels of the colour scale under a map
TICK = 6  # pixels of the marks where tiles meet
FONT = cv2.FONT_HERSHEY_SIMPLEX
INK, PAPER, MARK = (240, 240, 240), 32, (90, 220, 255)

Joints = tuple[Sequence[int], Sequence[int]]  # rows and columns of an output at which tiles meet


@dataclass(frozen=True)
class Panel:
    """An image [h, w, 3] uint8, at most SIDE x SIDE, with a line above and a line below it.

    `scale`: the line below says what the brightest colour stands for. `joints` are marked at the edges.
    """

    image: np.ndarray
    above: str
    below: str
    scale: bool = False
    joints: Joints = ((), ())


def compared(
    made: Mapping[str, np.ndarray],
    truth: np.ndarray,
    tiles: np.ndarray,
    scale: int,
    joints: Joints = ((), ()),
) -> list[Panel]:
    """The panels of one image: what each made of it beside the truth, at the place where the last one errs most.

    `tiles` is what the last one makes of it in tiles; all images are RGB uint8 [h, w, 3] of one size. The PSNR is that
    of the whole image, on luma.
    """
    last = list(made.values())[-1]
    top, left, side = worst_place(last, truth, SIDE // 2)

    def crop(image: np.ndarray) -> np.ndarray:
        return image[top : top + side, left : left + side]

    panels = [
        Panel(enlarged(crop(image)), name, f"{psnr_y(image, truth, scale):.2f} dB whole")
        for name, image in made.items()
    ]
    panels.append(Panel(enlarged(crop(truth)), "original", f"{side} x {side} pixels"))
    error = np.abs(luma(crop(last)) - luma(crop(truth)))
    panels.append(
        Panel(enlarged(colours(error)), "error of the last", scale_caption(error, "on luma"), scale=True)
    )
    seams = np.abs(last.astype(np.int16) - tiles).max(2)
    shown, grid = fitted(seams, joints)
    panels.append(Panel(colours(shown), "tiles against whole", scale_caption(seams, "of 255"), True, grid))
    return panels


def worst_place(output: np.ndarray, truth: np.ndarray, side: int) -> tuple[int, int, int]:
    """(top, left, side) of the square in which an output is farthest from the truth, both RGB uint8 [h, w, 3]."""
    side = min(side, *truth.shape[:2])
    error = np.square(luma(output) - luma(truth))
    sums = np.pad(error.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    window = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(window.argmax()), window.shape)
    return int(top), int(left), side


def colours(levels: np.ndarray) -> np.ndarray:
    """Differences [h, w] >= 0 as colours, RGB uint8 [h, w, 3]: dark for 0, the brightest for the largest."""
    scaled = np.round(levels * (255 / max(float(levels.max()), 1e-9))).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def scale_caption(levels: np.ndarray, unit: str) -> str:
    """What the brightest colour of a map stands for, and how far that is amplified."""
    most = float(levels.max())
    return f"{most:.0f} {unit}, x {255 / most:.3g}" if most else "no difference"


def enlarged(image: np.ndarray) -> np.ndarray:
    """An image [h, w, 3] with each pixel as a square, as large as fits into a panel."""
    factor = max(1, SIDE // max(image.shape[:2]))
    return image.repeat(factor, 0).repeat(factor, 1)


def fitted(levels: np.ndarray, joints: Joints) -> tuple[np.ndarray, Joints]:
    """A map [h, w] as large as fits into a panel, and its joints there.

    Of pixels that share one, the largest stays: seams are one pixel wide.
    """
    # tiles also meet in what was mirrored around an input that was too small
    joints = [k for k in joints[0] if k < levels.shape[0]], [k for k in joints[1] if k < levels.shape[1]]
    longest = max(levels.shape)
    if longest <= SIDE:
        factor = SIDE // longest
        larger = levels.repeat(factor, 0).repeat(factor, 1)
        return larger, ([k * factor for k in joints[0]], [k * factor for k in joints[1]])
    shown, places = levels, list[list[int]]()
    for axis, side in enumerate(levels.shape):
        now = max(1, side * SIDE // longest)
        starts = np.arange(now) * side // now
        shown = np.maximum.reduceat(shown, starts, axis)
        places.append([int(k) - 1 for k in np.searchsorted(starts, joints[axis], "right")])
    return shown, (places[0], places[1])


def joints_of(tiles: Plan, factor: int) -> Joints:
    """Where the tiles of an input meet in the output, which is `factor` times as large."""
    rows, columns = (
        sorted({span.first * factor for span in side} - {0})
        for side in ([t.rows for t in tiles.tiles], [t.columns for t in tiles.tiles])
    )
    return rows, columns


def panels_in_a_row(panels: Sequence[Panel]) -> np.ndarray:
    """RGB uint8 [HEAD + SIDE + FOOT, ., 3]: the panels side by side, as they are."""
    columns: list[np.ndarray] = []
    for panel in panels:
        below = BAR + 2 * GAP if panel.scale else 0  # where the line below begins
        width = max(SIDE, _width(panel.above), below + _width(panel.below))
        column = np.full((HEAD + SIDE + FOOT, width, 3), PAPER, np.uint8)
        height, wide = panel.image.shape[:2]
        column[HEAD : HEAD + height, :wide] = panel.image
        for row in panel.joints[0]:
            column[HEAD + row, :TICK] = column[HEAD + row, max(0, wide - TICK) : wide] = MARK
        for place in panel.joints[1]:
            column[HEAD : HEAD + TICK, place] = MARK
            column[HEAD + max(0, height - TICK) : HEAD + height, place] = MARK
        if panel.scale:
            ramp = colours(np.tile(np.linspace(0, 1, BAR), (FOOT // 2, 1)))
            column[HEAD + SIDE + FOOT // 4 :][: FOOT // 2, GAP : GAP + BAR] = ramp
        for text, x, y in ((panel.above, 4, HEAD - 7), (panel.below, below + 4, HEAD + SIDE + FOOT - 6)):
            cv2.putText(column, text, (x, y), FONT, 0.4, INK, 1, cv2.LINE_AA)
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
