"""Batches: the same for the same (seed, epoch), whatever the workers; ranks share one order."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from edgec.core.errors import DataError
from edgec.recipe import Augment
from edgec.tasks.batches import Batch, KeyedBatches
from edgec.tasks.detection.batch import collate
from edgec.tasks.detection.loader import Fitted, detection_batches
from edgec.tasks.detection.samples import Sample

PLAIN = Augment(mosaic=0, flip=0, hue=0, saturation=0, value=0, scale=0, translate=0)


def samples(count: int, side: int = 64) -> list[Sample]:
    """Pictures of noise whose first pixel is their number and whose only box has it as label."""
    made: list[Sample] = []
    for i in range(count):
        image = np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8)
        image[0, 0] = i
        boxes = np.array([[5, 6, 30 + i % 20, 40]], np.float32)
        made.append(Sample(str(i), image, boxes, np.array([i]), np.zeros(1, bool), (side, side)))
    return made


def batches(
    count: int = 10,
    config: Augment | None = None,
    batch: int = 4,
    epochs: int = 5,
    seed: int = 3,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> KeyedBatches:
    fitted = Fitted(samples(count), (64, 64), "letterbox")
    return detection_batches(fitted, config or Augment(), batch, epochs, seed, workers, rank, world)


def same(a: Batch, b: Batch) -> bool:
    return torch.equal(a.images, b.images) and torch.equal(a.targets, b.targets)


def numbers(batch: Batch) -> list[int]:
    """Which pictures a plain batch holds."""
    return [round(float(v) * 255) for v in batch.images[:, 0, 0, 0]]


def test_a_batch_has_the_shapes_that_it_promises():
    made = batches()
    found = list(made.epoch(0))
    assert len(found) == len(made) == 2
    batch = found[0]
    assert len(batch) == 4 and batch.images.shape == (4, 3, 64, 64) and batch.images.dtype == torch.float32
    assert 0 <= float(batch.images.min()) and float(batch.images.max()) <= 1
    assert batch.targets.shape[1] == 6 and batch.targets.dtype == torch.float32
    assert set(batch.targets[:, 0].tolist()) <= {0.0, 1.0, 2.0, 3.0}
    assert batch.to("cpu").targets.shape == batch.targets.shape


def test_targets_name_their_image_and_class():
    for batch in batches(config=PLAIN).epoch(0):
        assert batch.targets[:, 0].tolist() == [0, 1, 2, 3]
        assert batch.targets[:, 1].tolist() == numbers(batch)
        assert batch.targets[:, 2:4].tolist() == [[5, 6]] * 4


def test_pixels_come_through_exactly():
    made = samples(10)
    for batch in batches(config=PLAIN).epoch(0):
        for image, number in zip(batch.images, numbers(batch), strict=True):
            wanted = torch.from_numpy(np.asarray(made[number].image)).permute(2, 0, 1).float() / 255
            assert torch.equal(image, wanted)


def test_no_boxes_at_all():
    image = np.zeros((8, 8, 3), np.uint8)
    batch = collate([(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))] * 2)
    assert batch.images.shape == (2, 3, 8, 8) and batch.targets.shape == (0, 6)


def test_an_epoch_visits_each_image_at_most_once_and_epochs_differ():
    made = batches(count=12, config=PLAIN)
    orders = [[n for batch in made.epoch(e) for n in numbers(batch)] for e in range(3)]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_the_same_epoch_is_the_same_again_and_on_its_own():
    made = batches()
    first = [list(made.epoch(e)) for e in range(3)]
    assert all(same(a, b) for a, b in zip(first[1], made.epoch(1), strict=True))
    assert all(same(a, b) for a, b in zip(first[2], batches().epoch(2), strict=True))
    assert not same(first[0][0], first[1][0])
    assert not same(first[0][0], next(iter(batches(seed=4).epoch(0))))


def test_an_epoch_left_early_leaves_no_trace():
    made = batches()
    next(made.epoch(0))
    assert all(same(a, b) for a, b in zip(made.epoch(1), batches().epoch(1), strict=True))


def test_global_generators_neither_matter_nor_move():
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state()
    a = list(batches().epoch(0))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)
    np.random.seed(1)
    assert all(same(x, y) for x, y in zip(a, batches().epoch(0), strict=True))


def test_workers_do_not_change_a_bit():
    alone, two = batches(), batches(workers=2)
    try:
        for epoch in (0, 1, 4):
            for a, b in zip(alone.epoch(epoch), two.epoch(epoch), strict=True):
                assert same(a, b)
    finally:
        two.close()
        alone.close()


def test_an_epoch_left_early_with_workers_leaves_no_trace():
    two = batches(workers=2)
    try:
        next(two.epoch(0))
        assert all(same(a, b) for a, b in zip(two.epoch(1), batches().epoch(1), strict=True))
    finally:
        two.close()


def test_more_workers_than_cores_bring_no_warning():
    many = batches(count=4, workers=(os.cpu_count() or 1) + 1, batch=2)
    try:
        assert len(list(many.epoch(0))) == 2
    finally:
        many.close()


def test_ranks_share_the_order_of_one():
    whole = [numbers(b) for b in batches(count=17, config=PLAIN, batch=4).epoch(2)]
    parts = [
        [numbers(b) for b in batches(count=17, config=PLAIN, batch=2, rank=rank, world=2).epoch(2)]
        for rank in range(2)
    ]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole
    flat = [n for step in whole for n in step]
    assert len(whole) == 4 and len(set(flat)) == 16


@pytest.mark.parametrize(("count", "batch", "world"), [(1, 4, 1), (3, 8, 1), (2, 2, 4), (5, 4, 2)])
def test_few_images_still_make_a_full_step(count: int, batch: int, world: int):
    for rank in range(world):
        made = batches(count=count, batch=batch, rank=rank, world=world)
        found = list(made.epoch(0))
        assert len(found) == len(made) == 1 and len(found[0]) == batch


def test_the_last_epochs_see_whole_images():
    config = PLAIN.model_copy(update={"mosaic": 1.0, "mosaic_off_epochs": 2})
    made, plain = batches(config=config, epochs=5), batches(config=PLAIN, epochs=5)
    for epoch, whole in enumerate([False, False, False, True, True]):
        assert same(next(made.epoch(epoch)), next(plain.epoch(epoch))) is whole


def test_difficult_objects_are_not_trained_on():
    sample = samples(1)[0]
    both = Sample(
        "a",
        sample.image,
        np.array([[1, 1, 9, 9], [2, 2, 50, 50]], np.float32),
        np.array([4, 5]),
        np.array([True, False]),
        (64, 64),
    )
    _, boxes, labels = Fitted([both], (64, 64), "letterbox")(0)
    assert labels.tolist() == [5] and boxes.tolist() == [[2, 2, 50, 50]]


def test_fitted_boxes_are_in_pixels_of_the_input():
    fitted = Fitted(samples(2), (128, 256), "letterbox")
    image, boxes, _ = fitted(0)
    assert image.shape == (128, 256, 3)
    assert boxes.tolist() == [[64 + 10, 12, 64 + 60, 80]]
    assert fitted(0) is fitted(0)  # read once


def test_an_unreadable_image_is_named_from_a_worker(tmp_path: Path):
    gone = Sample(
        "a",
        tmp_path / "gone.jpg",
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.int64),
        np.zeros(0, bool),
        (64, 64),
    )
    for workers in (0, 1):
        made = detection_batches(Fitted([gone], (64, 64), "stretch"), PLAIN, 1, 1, 0, workers, 0, 1)
        try:
            with pytest.raises(DataError, match=r"gone.jpg"):
                next(made.epoch(0))
        finally:
            made.close()


def test_closing_twice_and_unused_is_fine():
    made = batches(workers=1)
    made.close()
    made.close()


def test_a_batch_can_be_sent_to_another_process():
    batch = next(batches().epoch(0))
    assert same(batch, pickle.loads(pickle.dumps(batch)))
