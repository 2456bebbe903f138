"""Pictures for the report: what is shown is what was made, and every difference can be seen."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgec.tasks.superres import draw
from edgec.tasks.superres.draw import HEAD, SIDE, Panel, compared, encode_png, panels_in_a_row
from edgec.tasks.superres.metrics import psnr_y
from edgec.tiles.crops import plan

BLACK, HOTTEST = (0, 0, 4), (252, 255, 164)  # the ends of the colour scale


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(40, 216, (height, width, 3), dtype=np.uint8)


def off(image: np.ndarray, part: tuple[slice, slice], by: int = 20) -> np.ndarray:
    """The image with a part brighter by grey levels."""
    changed = image.copy()
    changed[part] += np.uint8(by)
    return changed


def test_panels_in_order_with_the_psnr_of_each() -> None:
    truth = noise(150, 220)
    made = {"bicubic": off(truth, np.s_[:, :], 30), "dense": off(truth, np.s_[:, :], 10), "int8": truth}
    panels = compared(made, truth, truth, 4)
    assert [p.above for p in panels] == [
        "bicubic", "dense", "int8", "original", "error of the last", "tiles against whole",
    ]  # fmt: skip
    for panel, image in zip(panels, made.values(), strict=False):
        assert panel.below == f"{psnr_y(image, truth, 4):.2f} dB whole"
    assert panels[2].below == "100.00 dB whole"
    assert [p.below for p in panels[4:]] == ["no difference"] * 2
    assert all(max(p.image.shape) <= SIDE and p.image.dtype == np.uint8 for p in panels)


def test_the_crop_is_where_the_last_errs_most_and_its_pixels_are_whole_squares() -> None:
    truth = noise(300, 400)
    worst = off(truth, np.s_[210:240, 300:330])
    panels = compared({"bicubic": off(truth, np.s_[:20, :20], 40), "int8": worst}, truth, truth, 2)
    top, left, side = draw.worst_place(worst, truth, SIDE // 2)
    assert side == SIDE // 2 and top <= 210 and top + side >= 240 and left <= 300 and left + side >= 330
    shown = panels[1].image
    np.testing.assert_array_equal(shown[::2, ::2], worst[top : top + side, left : left + side])
    np.testing.assert_array_equal(shown[1::2, 1::2], shown[::2, ::2])
    np.testing.assert_array_equal(panels[2].image[::2, ::2], truth[top : top + side, left : left + side])


def test_the_error_map_is_dark_where_nothing_differs_and_tells_its_brightest() -> None:
    truth = np.full((120, 120, 3), 100, np.uint8)
    made = off(off(truth, np.s_[50:60, 50:60], 51), np.s_[60:70, 50:60], 102)
    error = compared({"int8": made}, truth, made, 1)[1 + 1]
    assert error.scale and error.below.startswith("88 on luma")  # 102 grey levels x 219 / 255
    top, left, _ = draw.worst_place(made, truth, SIDE // 2)
    at = [error.image[2 * (row - top), 2 * (55 - left)] for row in (45, 55, 65)]
    assert tuple(at[0]) == BLACK and tuple(at[2]) == HOTTEST
    assert BLACK[0] < at[1][0] < HOTTEST[0]


@pytest.mark.parametrize(("height", "width"), [(600, 1000), (777, 500), (196, 196), (197, 100), (24, 40)])
def test_a_seam_of_one_pixel_stays_visible_at_any_size(height: int, width: int) -> None:
    image = noise(height, width)
    row, column = height // 3, width // 2
    tiles = off(off(image, np.s_[row : row + 1, :], 3), np.s_[:, column : column + 1], 1)
    panel = compared({"int8": image}, image, tiles, 2, ([row], [column]))[-1]
    assert panel.below == "4 of 255, x 63.8"
    assert max(panel.image.shape) <= SIDE < 2 * max(panel.image.shape)
    (at,), (across,) = panel.joints
    lit = (panel.image != BLACK).any(-1)
    assert lit[at].all() and lit[:, across].all()
    assert not lit[: max(0, at - 1), :across].any()


def test_no_difference_is_brighter_for_having_been_shrunk() -> None:
    levels = np.random.default_rng(1).integers(0, 200, (431, 787))
    shown, _ = draw.fitted(levels, ((), ()))
    assert shown.max() == levels.max() and shown.shape == (107, SIDE)
    assert shown.min() >= levels.min()


def test_joints_are_where_tiles_meet_in_the_output() -> None:
    tiles = plan(100, 64, (64, 64), 16)
    assert draw.joints_of(tiles, 4) == ([192, 320], [])  # tiles answer for rows 0..47, 48..79 and the rest
    assert draw.joints_of(plan(50, 50, (64, 64), 16), 4) == ([], [])


@pytest.mark.parametrize("side", [50, 500])
def test_joints_beyond_the_image_are_left_out(side: int) -> None:
    """Of an input that was mirrored to the network's multiple."""
    _, shown = draw.fitted(np.zeros((side, side)), ([side - 1, side], [side + 3]))
    assert len(shown[0]) == 1 and shown[0][0] < SIDE and shown[1] == []


def test_joints_are_marked_at_the_edges_and_hide_nothing_else() -> None:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    row = panels_in_a_row([Panel(image, "tiles", "no difference", True, ([50], [120, 150]))])
    marked = (row == draw.MARK).all(-1)[HEAD : HEAD + SIDE]
    assert set(np.flatnonzero(marked[10:-10].any(1)) + 10) == {50}
    assert set(np.flatnonzero(marked[:2].any(0))) == {120, 150}
    assert not marked[draw.TICK : -draw.TICK, draw.TICK : -draw.TICK].any()


def test_six_panels_fit_into_a_page_of_1240_pixels() -> None:
    image = noise(300, 300)
    made = {name: image for name in ("bicubic", "dense, torch", "int8, onnxruntime")}
    row = panels_in_a_row(compared(made, image, noise(300, 300, 1), 4))
    assert row.shape[1] <= 1240 - 2 * 16 and row.dtype == np.uint8


def test_long_names_are_written_out() -> None:
    image = noise(100, 100)
    wide = panels_in_a_row([Panel(image, "a name that is far longer than a panel is wide, in full", "")])
    assert wide.shape[1] > SIDE
    assert not (wide[:HEAD, -3:] > 200).any()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 500), (2000, 2)])
def test_images_of_any_shape(height: int, width: int) -> None:
    image = noise(height, width)
    panels = compared({"int8": off(image, np.s_[:1, :1])}, image, noise(height, width, 2), 4)
    assert panels_in_a_row(panels).shape[0] == HEAD + SIDE + draw.FOOT


def test_the_same_images_give_the_same_bytes_and_inputs_are_left_alone() -> None:
    truth, made = noise(90, 120), noise(90, 120, 1)
    before = truth.copy(), made.copy()
    first, second = (encode_png(panels_in_a_row(compared({"int8": made}, truth, truth, 2))) for _ in range(2))
    assert first == second
    np.testing.assert_array_equal(truth, before[0])
    np.testing.assert_array_equal(made, before[1])


def test_png_keeps_every_pixel() -> None:
    image = noise(20, 30)
    decoded = cv2.imdecode(np.frombuffer(encode_png(image), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    np.testing.assert_array_equal(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), image)
