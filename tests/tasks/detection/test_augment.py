"""Augmentation: the boxes follow the pixels, and the generator alone decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.recipe import Augment
from edgec.tasks.detection.augment import MIN_LEFT, MIN_SIDE, augment, clip_boxes
from edgec.tasks.detection.batch import Prepared

SIZE = (96, 128)
NONE = Augment(mosaic=0, flip=0, hue=0, saturation=0, value=0, scale=0, translate=0, rotate_degrees=0)


def scene(index: int) -> Prepared:
    """A grey picture with one rectangle, brighter with the index; its box and label."""
    image = np.full((*SIZE, 3), 30, np.uint8)
    x, y = 20 + 9 * index, 15 + 7 * index
    image[y : y + 30, x : x + 40] = 200 + 10 * index
    return image, np.array([[x, y, x + 40, y + 30]], np.float32), np.array([index])


def run(config: Augment, seed: int = 0, mosaic: bool = True, index: int = 1) -> Prepared:
    return augment(scene, index, 4, SIZE, config, mosaic, np.random.default_rng(seed))


def test_nothing_asked_nothing_done():
    for seed in range(5):
        image, boxes, labels = run(NONE, seed)
        wanted = scene(1)
        assert (
            np.array_equal(image, wanted[0]) and np.array_equal(boxes, wanted[1]) and labels.tolist() == [1]
        )


def test_flip_mirrors_image_and_boxes():
    image, boxes, _ = run(NONE.model_copy(update={"flip": 1.0}))
    wanted, box, _ = scene(1)
    assert np.array_equal(image, wanted[:, ::-1])
    x1, y1, x2, y2 = box[0]
    assert boxes.tolist() == [[SIZE[1] - x2, y1, SIZE[1] - x1, y2]]


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize(
    "change", [{"scale": 0.5}, {"translate": 0.2}, {"scale": 0.3, "translate": 0.2, "flip": 0.5}]
)
def test_boxes_follow_the_pixels(change: dict[str, float], seed: int):
    image, boxes, labels = run(NONE.model_copy(update=change), seed)
    if len(boxes) == 0:
        return
    rows, columns = np.nonzero(image[:, :, 0] > 160)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(np.array(seen) - boxes[0]).max() <= 1.6
    assert labels.tolist() == [1]


@pytest.mark.parametrize("seed", range(10))
def test_a_turned_box_contains_the_turned_pixels(seed: int):
    image, boxes, _ = run(NONE.model_copy(update={"rotate_degrees": 30.0}), seed)
    rows, columns = np.nonzero(image[:, :, 0] > 160)
    x1, y1, x2, y2 = boxes[0]
    assert x1 - 1 <= columns.min() and columns.max() + 1 <= x2 + 1
    assert y1 - 1 <= rows.min() and rows.max() + 1 <= y2 + 1


@pytest.mark.parametrize("seed", range(20))
def test_a_mosaic_shows_each_box_on_its_object(seed: int):
    image, boxes, labels = run(NONE.model_copy(update={"mosaic": 1.0}), seed)
    assert image.shape == (*SIZE, 3)
    for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
        middle = image[int((y1 + y2) / 2), int((x1 + x2) / 2)]
        assert abs(int(middle[0]) - (200 + 10 * int(label))) <= 2


def test_a_mosaic_brings_other_images():
    labels = [run(NONE.model_copy(update={"mosaic": 1.0}), seed)[2].tolist() for seed in range(30)]
    assert max(map(len, labels)) > 1 and {label for found in labels for label in found} == {0, 1, 2, 3}


def test_mosaic_can_be_off():
    image, _, labels = run(NONE.model_copy(update={"mosaic": 1.0}), mosaic=False)
    assert np.array_equal(image, scene(1)[0]) and labels.tolist() == [1]


def test_colour_changes_only_colour():
    changed = [
        run(NONE.model_copy(update={"hue": 0.1, "saturation": 0.5, "value": 0.4}), seed) for seed in range(8)
    ]
    assert all(np.array_equal(boxes, scene(1)[1]) for _, boxes, _ in changed)
    assert len({image.tobytes() for image, _, _ in changed}) > 4


def test_colour_off_is_exact():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    empty = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    image, boxes, _ = augment(lambda _: (picture, *empty), 0, 1, SIZE, NONE, True, rng)
    assert np.array_equal(image, picture) and boxes.shape == (0, 4)


def test_the_source_is_never_written_to():
    stored = [scene(i) for i in range(4)]
    for seed in range(10):
        augment(lambda i: stored[i], 0, 4, SIZE, Augment(), True, np.random.default_rng(seed))
    for i in range(4):
        assert all(np.array_equal(a, b) for a, b in zip(stored[i], scene(i), strict=True))


def test_the_generator_alone_decides():
    for seed in range(5):
        a, b = run(Augment(rotate_degrees=5.0), seed), run(Augment(rotate_degrees=5.0), seed)
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 3))
def test_boxes_stay_inside_and_are_never_slivers(seed: int, index: int):
    image, boxes, labels = run(Augment(scale=0.6, translate=0.3, rotate_degrees=15.0), seed, index=index)
    assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
    assert boxes.shape == (len(labels), 4) and boxes.dtype == np.float32
    if len(boxes):
        assert boxes.min() >= 0 and boxes[:, 2].max() <= SIZE[1] and boxes[:, 3].max() <= SIZE[0]
        assert (boxes[:, 2:] - boxes[:, :2]).min() >= MIN_SIDE


def test_clipping_drops_what_is_mostly_gone():
    boxes = np.array(
        [[-10, 0, 30, 40], [-80, 0, 10, 40], [0, 0, MIN_SIDE - 0.5, 40], [200, 0, 240, 40]], np.float32
    )
    kept, labels = clip_boxes(boxes, np.arange(4), SIZE)
    assert labels.tolist() == [0] and kept.tolist() == [[0, 0, 30, 40]]
    assert 10 / 90 < MIN_LEFT <= 30 / 40
