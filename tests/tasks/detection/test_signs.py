"""The built-in set of traffic signs."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from edgec.tasks.detection import signs
from edgec.tasks.detection.signs_draw import SIDE, SIGNS, draw_sign


def test_the_same_arguments_give_the_same_image():
    a, b = signs.render("train", 5, 1, 160), signs.render("train", 5, 1, 160)
    assert isinstance(a.image, np.ndarray) and isinstance(b.image, np.ndarray)
    assert a.image.tobytes() == b.image.tobytes()
    assert a.boxes.tolist() == b.boxes.tolist() and a.labels.tolist() == b.labels.tolist()


def test_split_seed_and_index_each_matter():
    images = [
        signs.render(*arguments, 96).image
        for arguments in [("train", 5, 1), ("val", 5, 1), ("train", 6, 1), ("train", 5, 2)]
    ]
    assert len({np.asarray(i).tobytes() for i in images}) == 4


def test_an_image_does_not_depend_on_those_drawn_before():
    first = np.asarray(signs.render("val", 3, 1, 96).image)
    for index in range(3):
        signs.render("val", index, 1, 96)
    assert np.array_equal(first, np.asarray(signs.render("val", 3, 1, 96).image))


def test_training_and_evaluation_share_no_photograph():
    assert not set(signs.TRAINING) & set(signs.HELD_OUT)


def test_photographs_are_in_the_package_and_need_no_network(monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the set must not use the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    signs.photograph.cache_clear()
    for name in (*signs.TRAINING, *signs.HELD_OUT):
        photo = signs.photograph(name)
        assert photo.ndim == 3 and min(photo.shape[:2]) >= 256
    assert signs.render("test", 0, 1, 64).size == (64, 64)


@pytest.fixture(scope="module")
def many() -> list[signs.Sample]:
    return [signs.render("train", index, 1, 160) for index in range(150)]


def test_classes_are_balanced(many: list[signs.Sample]):
    counts = np.bincount(np.concatenate([s.labels for s in many]), minlength=len(signs.CLASSES))
    assert (
        len(signs.CLASSES) == 8 and counts.min() > 0.5 * counts.mean() and counts.max() < 1.6 * counts.mean()
    )


def test_boxes_lie_inside_and_come_in_many_sizes(many: list[signs.Sample]):
    boxes = np.concatenate([s.boxes for s in many])
    sides = boxes[:, 2:] - boxes[:, :2]
    assert boxes.min() >= 0 and boxes.max() <= 160 and sides.min() >= 5
    assert np.percentile(sides, 10) < 25 and np.percentile(sides, 90) > 50
    counts = [len(s.boxes) for s in many]
    assert min(counts) == 0 and 4 <= max(counts) <= 5
    assert not any(s.difficult.any() for s in many)


def test_images_are_neither_black_nor_white(many: list[signs.Sample]):
    assert all(10 < np.asarray(s.image).mean() < 245 for s in many[:40])
    assert all(np.asarray(s.image).std() > 3 for s in many)


@pytest.mark.parametrize("name", SIGNS)
def test_a_face_fills_its_square_and_is_clear_around(name: str):
    face = draw_sign(name, np.random.default_rng(0))
    assert face.shape == (SIDE, SIDE, 4)
    rows, columns = np.nonzero(face[:, :, 3] > 127)
    assert columns.max() - columns.min() > 0.9 * SIDE and rows.max() - rows.min() > 0.8 * SIDE
    assert face[face[:, :, 3] > 250][:, :3].std() > 30  # a pattern, not a blot


def test_faces_differ():
    faces = [draw_sign(name, np.random.default_rng(0)).astype(float) for name in SIGNS]
    for i, a in enumerate(faces):
        for b in faces[i + 1 :]:
            assert np.abs(a - b).mean() > 10
