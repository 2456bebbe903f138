"""Boxes on images, pictures side by side."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgec.tasks.detection.decode import Detections
from edgec.tasks.detection.draw import PALETTE, draw_detections, encode_jpeg, side_by_side

CLASSES = ["stop", "yield", "other"]


def grey(height: int = 200, width: int = 320) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def finds(*items: tuple[tuple[float, float, float, float], int, float]) -> Detections:
    return Detections(
        np.array([box for box, _, _ in items], np.float32).reshape(-1, 4),
        np.array([score for _, _, score in items], np.float32),
        np.array([label for _, label, _ in items], np.int64),
    )


def is_colour(image: np.ndarray, row: int, column: int, label: int) -> bool:
    """Whether a pixel has the colour of a class, but for smoothing."""
    near = [np.abs(image[row, column].astype(int) - colour).sum() for colour in PALETTE]
    return int(np.argmin(near)) == label % len(PALETTE) and min(near) < 60


def painted(image: np.ndarray) -> np.ndarray:
    return (image != 128).any(-1)


def test_a_box_is_a_frame_in_the_colour_of_its_class():
    image = draw_detections(grey(), finds(((60, 50, 260, 150), 1, 0.8)), CLASSES)
    for row, column in ((150, 160), (100, 60), (100, 260)):
        assert is_colour(image, row, column, 1)
    assert not painted(image)[55:145, 65:255].any()  # the object stays to be seen
    assert not painted(image)[160:].any() and not painted(image)[:, :50].any()


def test_classes_have_different_colours():
    assert len(set(PALETTE)) == len(PALETTE) >= 8
    found = finds(((20, 60, 80, 150), 0, 0.8), ((180, 60, 240, 150), 2, 0.8))
    image = draw_detections(grey(), found, CLASSES)
    assert is_colour(image, 150, 50, 0) and is_colour(image, 150, 210, 2)


def test_more_classes_than_colours_are_drawn():
    names = [f"c{i}" for i in range(20)]
    assert is_colour(draw_detections(grey(), finds(((60, 50, 260, 150), 19, 0.8)), names), 150, 160, 19)


def test_the_image_given_is_left_alone():
    image = grey()
    drawn = draw_detections(image, finds(((60, 50, 260, 150), 1, 0.8)), CLASSES)
    assert (image == 128).all() and drawn.shape == image.shape and drawn.dtype == np.uint8


def test_nothing_found_is_the_image():
    assert (draw_detections(grey(), finds(), CLASSES) == 128).all()


def test_the_label_stands_above_the_box_and_tells_the_score():
    found = finds(((60, 50, 260, 150), 0, 0.8))
    with_score = draw_detections(grey(), found, CLASSES)
    without = draw_detections(grey(), found, CLASSES, scores=False)
    above = [painted(image)[:48] for image in (with_score, without)]
    assert above[0].any() and above[1].any()
    assert np.flatnonzero(above[0].any(0)).max() > np.flatnonzero(above[1].any(0)).max()


@pytest.mark.parametrize("box", [(-40, -30, 60, 60), (290, 0, 400, 90), (0, 0, 320, 200)])
def test_a_label_at_the_border_stays_readable(box: tuple[float, float, float, float]):
    """As much of it as in the middle of the image."""
    image = draw_detections(grey(), finds((box, 0, 0.8)), CLASSES)
    middle = draw_detections(grey(), finds(((100, 80, 220, 150), 0, 0.8)), CLASSES)
    white = [int((image.min(-1) > 200).sum()) for image in (image, middle)]
    assert white[1] > 20 and white[0] >= 0.7 * white[1]


def test_the_best_score_is_on_top():
    box = (60.0, 50.0, 260.0, 150.0)
    for scores in ((0.9, 0.3), (0.3, 0.9)):
        image = draw_detections(grey(), finds((box, 0, scores[0]), (box, 1, scores[1])), CLASSES)
        assert is_colour(image, 150, 160, int(np.argmax(scores)))


def test_lines_are_wider_on_larger_images():
    widths: list[int] = []
    for scale in (1, 6):
        box = (60 * scale, 50 * scale, 260 * scale, 150 * scale)
        image = draw_detections(grey(200 * scale, 320 * scale), finds((box, 0, 0.8)), CLASSES)
        widths.append(int(painted(image)[100 * scale, : 160 * scale].sum()))
    assert 1 <= widths[0] <= 3 and widths[1] >= 5


def test_boxes_far_beyond_the_image_are_drawn_without_harm():
    found = finds(((-1e6, -1e6, 1e6, 1e6), 0, 0.9), ((-1e6, 50, 160, 150), 1, 0.5))
    image = draw_detections(grey(), found, CLASSES)
    assert is_colour(image, 100, 160, 1)


def test_views_and_read_only_images_are_taken():
    image = grey(200, 400)[:, ::-1][:, :320]
    image.flags.writeable = False
    assert painted(draw_detections(image, finds(((60, 50, 260, 150), 1, 0.8)), CLASSES)).any()


# --- pictures


def test_pictures_stand_side_by_side_at_one_height():
    red = np.full((100, 200, 3), (255, 0, 0), np.uint8)
    blue = np.full((400, 400, 3), (0, 0, 255), np.uint8)
    row = side_by_side([red, blue], ["dense", "compressed"], height=150)
    assert row.dtype == np.uint8 and row.shape[1] >= 300 + 150
    bar = row.shape[0] - 150
    assert bar >= 16
    assert (row[bar:, :300] == (255, 0, 0)).all() and (row[bar:, -150:] == (0, 0, 255)).all()
    for part in (row[:bar, :300], row[:bar, -150:]):
        assert part.min() < 64 and part.max() > 180  # a caption


def test_one_picture_is_a_row_too():
    assert side_by_side([grey(300, 200)], ["annotated"], height=300).shape[1] == 200


def test_captions_and_pictures_must_be_as_many():
    with pytest.raises(ValueError):
        side_by_side([grey(), grey()], ["dense"])


def test_jpeg_bytes_hold_the_picture_in_rgb():
    image = np.full((40, 60, 3), (250, 120, 10), np.uint8)
    data = encode_jpeg(image)
    assert data.startswith(b"\xff\xd8")
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert np.abs(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(int) - image).max() <= 4


def test_lower_quality_is_smaller():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert len(encode_jpeg(noise, 30)) < len(encode_jpeg(noise, 95))
