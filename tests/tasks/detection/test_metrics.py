"""Mean average precision, by hand and against pycocotools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgec.tasks.detection.decode import Detections
from edgec.tasks.detection.metrics import IOUS, DetectionMetrics, Truth, box_iou, evaluate_detections

Box = tuple[float, float, float, float]
A: Box = (0, 0, 10, 10)
B: Box = (50, 50, 70, 70)
FAR: Box = (200, 200, 210, 210)


def truth(*objects: tuple[Box, int], difficult: tuple[int, ...] = ()) -> Truth:
    """The objects of an image; `difficult` are indices."""
    boxes = np.array([box for box, _ in objects], np.float32).reshape(-1, 4)
    flags = np.isin(np.arange(len(objects)), difficult)
    return Truth(boxes, np.array([label for _, label in objects], np.int64), flags)


def seen(*finds: tuple[Box, int, float]) -> Detections:
    return Detections(
        np.array([box for box, _, _ in finds], np.float32).reshape(-1, 4),
        np.array([score for _, _, score in finds], np.float32),
        np.array([label for _, label, _ in finds], np.int64),
    )


def evaluate(found: Detections, wanted: Truth, classes: tuple[str, ...] = ("a",)) -> DetectionMetrics:
    return evaluate_detections([found], [wanted], classes)


def test_the_thresholds_are_those_of_coco():
    assert IOUS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def test_box_iou():
    a = np.array([A, (0, 0, 20, 10), (5, 5, 5, 5)], np.float32)
    assert box_iou(a, np.array([A, FAR], np.float32)) == pytest.approx(np.array([[1, 0], [0.5, 0], [0, 0]]))


def test_perfect_detections_have_everything_at_one():
    found = evaluate(seen((A, 0, 0.9), (B, 1, 0.4)), truth((A, 0), (B, 1)), ("a", "b"))
    assert found == DetectionMetrics(1.0, 1.0, 1.0, {"a": 1.0, "b": 1.0}, 1, 2)


def test_the_area_under_the_precision_envelope():
    """Right, wrong, right, right of 4 objects: precision 1, 1/2, 2/3, 3/4, its envelope 1, 3/4, 3/4, 3/4."""
    objects: list[Box] = [(20 * k, 0, 20 * k + 10, 10) for k in range(4)]
    finds = [(objects[0], 0, 0.9), (FAR, 0, 0.8), (objects[1], 0, 0.7), (objects[2], 0, 0.6)]
    found = evaluate(seen(*finds), truth(*((o, 0) for o in objects)))
    assert found.map50 == pytest.approx((1 + 3 / 4 + 3 / 4) / 4)
    assert found.map50_11point == pytest.approx((3 * 1 + 5 * 3 / 4) / 11)  # recall to 0.25, to 0.75


def test_the_score_alone_orders_detections_over_images():
    finds = [seen((FAR, 0, 0.5)), seen((A, 0, 0.9)), seen((B, 0, 0.3))]
    wanted = [truth((A, 0)), truth((A, 0)), truth((B, 0))]
    found = evaluate_detections(finds, wanted, ["a"])
    assert found.map50 == pytest.approx((1 + 2 / 3) / 3)
    assert (found.images, found.objects) == (3, 3)
    shuffled = evaluate_detections(finds[::-1], wanted[::-1], ["a"])
    assert shuffled == found


def test_the_order_within_an_image_does_not_matter():
    finds = ((FAR, 0, 0.5), (B, 0, 0.3), (A, 0, 0.9))
    wanted = truth((A, 0), (B, 0))
    assert evaluate(seen(*finds), wanted) == evaluate(seen(*finds[::-1]), wanted)


def test_a_second_detection_of_an_object_is_wrong():
    wanted = truth((A, 0), (B, 0))
    assert evaluate(seen((A, 0, 0.9), (A, 0, 0.8), (B, 0, 0.7)), wanted).map50 == pytest.approx(
        (1 + 2 / 3) / 2
    )


def test_the_best_score_takes_the_object():
    """The better box comes second and is the wrong one."""
    near: Box = (0, 0, 10, 8)
    found = evaluate(seen((near, 0, 0.9), (A, 0, 0.8)), truth((A, 0)))
    assert found.map50 == 1.0
    assert found.map == pytest.approx((7 * 1 + 3 * 0.5) / 10)  # IoU 0.8; beyond it the second is first to hit


def test_iou_at_the_threshold_is_enough():
    half: Box = (0, 0, 10, 5)
    assert evaluate(seen((half, 0, 0.9)), truth((A, 0))).map50 == 1.0
    assert evaluate(seen((half, 0, 0.9)), truth((A, 0))).map == pytest.approx(0.1)


def test_the_right_place_with_the_wrong_class_is_nothing():
    found = evaluate(seen((A, 1, 0.9)), truth((A, 0), (B, 1)), ("a", "b"))
    assert found.ap50 == {"a": 0.0, "b": 0.0}


def test_a_detection_counts_in_its_own_image_only():
    assert evaluate_detections([seen((A, 0, 0.9)), seen()], [truth(), truth((A, 0))], ["a"]).map50 == 0.0


# --- difficult objects


def test_a_detection_of_a_difficult_object_does_not_count():
    wanted = truth((A, 0), (B, 0), difficult=(0,))
    found = evaluate(seen((A, 0, 0.9), (B, 0, 0.8)), wanted)
    assert (found.map50, found.objects) == (1.0, 1)


def test_a_difficult_object_takes_any_number_of_detections():
    wanted = truth((A, 0), (B, 0), difficult=(0,))
    assert evaluate(seen((A, 0, 0.9), (A, 0, 0.85), (B, 0, 0.8)), wanted).map50 == 1.0


def test_a_difficult_object_need_not_be_found():
    assert evaluate(seen((B, 0, 0.8)), truth((A, 0), (B, 0), difficult=(0,))).map50 == 1.0


def test_a_plain_object_comes_before_a_difficult_one():
    """A detection that overlaps both is a hit, though the difficult one is nearer."""
    assert evaluate(seen((A, 0, 0.9)), truth((A, 0), ((0, 0, 10, 8), 0), difficult=(0,))).map50 == 1.0


def test_a_class_with_difficult_objects_alone_is_left_out():
    wanted = truth((A, 0), (B, 1), difficult=(1,))
    found = evaluate(seen((A, 0, 0.9), (B, 1, 0.9)), wanted, ("a", "b"))
    assert found.ap50 == {"a": 1.0} and found.map50 == 1.0


# --- what is missing


def test_a_class_without_objects_is_left_out_of_the_mean():
    found = evaluate(seen((A, 0, 0.9), (B, 2, 0.9)), truth((A, 0), (B, 1)), ("a", "b", "c"))
    assert found.ap50 == {"a": 1.0, "b": 0.0} and found.map50 == 0.5


def test_nothing_found_is_zero():
    found = evaluate_detections([seen(), seen()], [truth((A, 0)), truth()], ["a"])
    assert found == DetectionMetrics(0.0, 0.0, 0.0, {"a": 0.0}, 2, 1)


def test_nothing_wanted_is_zero_without_a_class():
    found = evaluate_detections([seen((A, 0, 0.9))], [truth()], ["a"])
    assert found == DetectionMetrics(0.0, 0.0, 0.0, {}, 1, 0)
    assert evaluate_detections([], [], ["a"]).map50 == 0.0


def test_predictions_and_truths_must_be_as_many():
    with pytest.raises(ValueError):
        evaluate_detections([seen()], [], ["a"])


def test_json_is_flat():
    found = evaluate(seen((A, 0, 0.9)), truth((A, 0), (B, 1)), ("a", "b")).accuracy().flat()
    assert found["ap50/a"] == 1.0 and found["ap50/b"] == 0.0 and found["map50"] == 0.5
    assert {type(value) for value in found.values()} <= {int, float}


# --- against pycocotools


def random_data(seed: int, images: int = 40, classes: int = 3) -> tuple[list[Detections], list[Truth]]:
    """Objects, some difficult; noisy, doubled and false detections, all scores distinct."""
    rng = np.random.default_rng(seed)
    finds: list[Detections] = []
    truths: list[Truth] = []
    for _ in range(images):
        n = int(rng.integers(0, 7))
        corner = rng.uniform(0, 60, (n, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(10, 50, (n, 2))], 1)
        labels = rng.integers(0, classes, n)
        truths.append(Truth(boxes.astype(np.float32), labels, rng.random(n) < 0.25))
        again = np.repeat(np.arange(n), rng.integers(0, 4, n))
        false = rng.uniform(0, 60, (int(rng.integers(0, 4)), 2))
        near = boxes[again] + rng.normal(0, 3, (len(again), 4))
        guesses = np.concatenate([near, np.concatenate([false, false + 25], 1)])
        labels = np.concatenate([labels[again], rng.integers(0, classes, len(false))])
        finds.append(Detections(guesses.astype(np.float32), rng.random(len(guesses), np.float32), labels))
    return finds, truths


def coco_precision(
    finds: list[Detections], truths: list[Truth], classes: int, recalls: np.ndarray
) -> np.ndarray:
    """Precision [thresholds, recalls, classes] of COCOeval.

    A difficult object is one outside the range of areas. There it takes one detection, so it has many copies.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def xywh(box: np.ndarray) -> list[float]:
        return [float(v) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])]

    def add(rows: list[dict[str, Any]], image: int, label: int, box: np.ndarray, **more: float) -> None:
        tree = {"image_id": image + 1, "category_id": int(label) + 1, "bbox": xywh(box), "iscrowd": 0}
        rows.append({"id": len(rows) + 1} | tree | more)

    annotations: list[dict[str, Any]] = []
    guesses: list[dict[str, Any]] = []
    for image, (wanted, found) in enumerate(zip(truths, finds, strict=True)):
        for box, label, difficult in zip(wanted.boxes, wanted.labels, wanted.difficult, strict=True):
            for _ in range(40 if difficult else 1):
                add(annotations, image, label, box, area=1e12 if difficult else 1.0)
        for box, label, score in zip(found.boxes, found.labels, found.scores, strict=True):
            add(guesses, image, label, box, area=1.0, score=float(score))
    reference: Any = COCO()
    results: Any = COCO()
    dataset = {
        "images": [{"id": i + 1} for i in range(len(truths))],
        "categories": [{"id": c + 1, "name": str(c)} for c in range(classes)],
    }
    reference.dataset = dataset | {"annotations": annotations}
    results.dataset = dataset | {"annotations": guesses}
    reference.createIndex()
    results.createIndex()
    evaluation = COCOeval(reference, results, "bbox")
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.params.recThrs = recalls
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"][:, :, :, 0, -1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("points", "tolerance"), [(101, 0.01), (20001, 2e-4)])
def test_agrees_with_pycocotools(seed: int, points: int, tolerance: float):
    """With ever more recall points, its mean becomes the area."""
    finds, truths = random_data(seed)
    found = evaluate_detections(finds, truths, ["a", "b", "c"])
    precision = coco_precision(finds, truths, 3, np.linspace(0, 1, points))
    assert 0.1 < found.map < found.map50 < 0.95
    assert found.map50 == pytest.approx(precision[0].mean(), abs=tolerance)
    assert found.map == pytest.approx(precision.mean(), abs=tolerance)
    assert list(found.ap50.values()) == pytest.approx(precision[0].mean(0).tolist(), abs=2 * tolerance)


def test_the_11_points_agree_with_pycocotools():
    finds, truths = random_data(5)
    precision = coco_precision(finds, truths, 3, np.linspace(0, 1, 11))
    found = evaluate_detections(finds, truths, ["a", "b", "c"])
    assert found.map50_11point == pytest.approx(precision[0].mean(), abs=1e-6)


@pytest.mark.parametrize("right", list(range(1, 11)))
def test_the_11_points_include_a_recall_just_reached(right: int):
    """`right` of 10 objects found: the points 0, 0.1 ... right / 10 have precision 1."""
    objects: list[Box] = [(20 * k, 0, 20 * k + 10, 10) for k in range(10)]
    found = evaluate(seen(*((o, 0, 0.9) for o in objects[:right])), truth(*((o, 0) for o in objects)))
    assert found.map50 == pytest.approx(right / 10)
    assert found.map50_11point == pytest.approx((right + 1) / 11)
