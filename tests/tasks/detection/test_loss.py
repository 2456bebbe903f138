"""The terms of the detection loss."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgec.core.contract.detection import Head
from edgec.tasks.detection.decode import decode, detections
from edgec.tasks.detection.loss import ciou, yolo_loss

HEADS = (
    Head(((60.0, 60.0), (90.0, 50.0)), 32, 1.05, 3),
    Head(((12.0, 12.0), (20.0, 40.0)), 16, 1.05, 3),
)
HEIGHT, WIDTH = 96, 128


def maps(batch: int = 2, scale: float = 1.0, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, h.channels, HEIGHT // h.stride, WIDTH // h.stride) for h in HEADS]
    return [(torch.randn(s, generator=generator) * scale).requires_grad_() for s in shapes]


def some_targets() -> Tensor:
    """Objects in images 0 and 2 of a batch."""
    first = [[0, 0, 10, 12, 24, 22], [0, 2, 40, 30, 110, 85]]
    third = [[2, 1, 60, 20, 81, 62], [2, 1, 62, 20, 84, 60]]
    return torch.tensor(first + third, dtype=torch.float32)


def values(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: term.item() for name, term in terms.items()}


# --- complete IoU


def ciou_by_hand(a: list[float], b: list[float]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    (wa, ha), (wb, hb) = (a[2] - a[0], a[3] - a[1]), (b[2] - b[0], b[3] - b[1])
    iou = shared / (wa * ha + wb * hb - shared)
    distance = ((a[0] + a[2] - b[0] - b[2]) ** 2 + (a[1] + a[3] - b[1] - b[3]) ** 2) / 4
    hull = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
    v = 4 / math.pi**2 * (math.atan(wb / hb) - math.atan(wa / ha)) ** 2
    alpha = v / (1 - iou + v) if v else 0.0
    return iou - distance / hull - alpha * v


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([0, 0, 10, 10], [5, 0, 15, 10]),
        ([0, 0, 10, 10], [30, 40, 50, 45]),
        ([3, 2, 40, 12], [5, 1, 20, 60]),
        ([-20, -5, 7, 9], [-18, -7, 3, 12]),
    ],
)
def test_ciou_is_that_of_the_paper(a: list[float], b: list[float]):
    found = ciou(torch.tensor([a], dtype=torch.float32), torch.tensor([b], dtype=torch.float32))
    assert found.item() == pytest.approx(ciou_by_hand(a, b), abs=1e-5)


def test_ciou_of_equal_boxes_is_one():
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 6, 100, 20]])
    assert ciou(boxes, boxes).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_the_weight_of_the_shape_term_has_no_gradient():
    a = torch.tensor([[3.0, 2, 40, 12]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[5.0, 1, 20, 60]], dtype=torch.float64)
    ciou(a, b).sum().backward()
    assert a.grad is not None

    def shape(box: Tensor) -> Tensor:
        wide, tall = box[0, 2] - box[0, 0], box[0, 3] - box[0, 1]
        return 4 / math.pi**2 * (math.atan(15 / 59) - torch.atan(wide / tall)) ** 2

    c = a.detach().clone().requires_grad_()
    low, high = torch.maximum(c[:, :2], b[:, :2]), torch.minimum(c[:, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod()
    iou = shared / ((c[:, 2:] - c[:, :2]).prod() + (b[:, 2:] - b[:, :2]).prod() - shared)
    hull = (torch.maximum(c[:, 2:], b[:, 2:]) - torch.minimum(c[:, :2], b[:, :2])).square().sum()
    distance = ((c[:, :2] + c[:, 2:] - b[:, :2] - b[:, 2:]) / 2).square().sum()
    alpha = (shape(c) / (1 - iou + shape(c))).item()
    (iou - distance / hull - alpha * shape(c)).backward()
    assert c.grad is not None
    assert torch.allclose(a.grad, c.grad, atol=1e-6)


# --- the terms


def softplus(x: float) -> float:
    return math.log1p(math.exp(-abs(x))) + max(x, 0)


def bce(logit: float, wanted: float) -> float:
    return softplus(logit) - wanted * logit


def test_the_terms_are_the_sums_over_the_positives():
    """One object of one image, of the shape of one anchor only."""
    head = Head(((12.0, 12.0), (40.0, 60.0)), 16, 1.1, 2)
    output = torch.randn(1, head.channels, 2, 3, generator=torch.Generator().manual_seed(3))
    target = torch.tensor([[0, 1, 17, 3, 29, 15]], dtype=torch.float32)  # centre (23, 9): row 0, column 1
    found = yolo_loss([output], target, [head], box_weight=2.0, objectness_weight=3.0, class_weight=7.0)
    raw = output.reshape(2, 7, 2, 3).double()
    cell = raw[0, :, 0, 1]
    x, y = ((k + 1.1 * torch.sigmoid(t).item() - 0.05) * 16 for k, t in ((1, cell[0]), (0, cell[1])))
    w, h = (12 * math.exp(t) for t in cell[2:4].tolist())
    box = 1 - ciou_by_hand([x - w / 2, y - h / 2, x + w / 2, y + h / 2], [17, 3, 29, 15])
    objectness = sum(bce(v, 0) for v in raw[:, 4].flatten().tolist()) - cell[4].item()
    classes = bce(cell[5].item(), 0) + bce(cell[6].item(), 1)
    assert values(found) == pytest.approx(
        {"box": 2 * box, "objectness": 3 * objectness, "class": 7 * classes}, rel=1e-4
    )


def test_two_images_alike_cost_what_one_costs():
    output = [o[:1].detach() for o in maps(1)]
    targets = some_targets()[:2]
    twice = torch.cat([targets, targets + torch.tensor([1.0, 0, 0, 0, 0, 0])])
    one = yolo_loss(output, targets, HEADS)
    two = yolo_loss([o.repeat(2, 1, 1, 1) for o in output], twice, HEADS)
    assert values(two) == pytest.approx(values(one), rel=1e-5)


@pytest.mark.parametrize("order", [[3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]])
def test_the_order_of_the_targets_does_not_matter(order: list[int]):
    """Not for the positives, nor for the predictions that are ignored."""
    outputs, targets = [o.detach() * 0.3 for o in maps(3)], some_targets()
    one = yolo_loss(outputs, targets, HEADS, ignore_iou=0.2)
    other = yolo_loss(outputs, targets[order], HEADS, ignore_iou=0.2)
    assert one["objectness"].item() < yolo_loss(outputs, targets, HEADS, ignore_iou=1.0)["objectness"].item()
    assert values(other) == pytest.approx(values(one), rel=1e-6)


def test_a_perfect_answer_costs_almost_nothing():
    head = Head(((12.0, 12.0),), 16, 1.0, 2)
    output = torch.zeros(1, 7, 2, 2)
    output[:, 4:] = -15
    output[0, 4, 1, 0], output[0, 6, 1, 0] = 15, 15
    found = yolo_loss([output], torch.tensor([[0, 1, 2.0, 18, 14, 30]]), [head])
    assert all(v.item() < 1e-4 for v in found.values())


@pytest.mark.parametrize(("label", "ignored"), [(0, True), (1, False)])
def test_a_prediction_on_an_object_is_not_a_negative(label: int, ignored: bool):
    """The cell beside the object's sees it as well; only the image that holds the object spares it."""
    head = Head(((40.0, 40.0),), 16, 1.0, 2)
    output = torch.zeros(2, 7, 3, 4)
    output[:, 4] = -20
    output[label, 0, 1, 2] = -20  # to the left border of its cell: 8 pixels from the centre of the object
    output[label, 4, 1, 2] = 3
    target = torch.tensor([[0.0, 0, 4, 4, 44, 44]])  # centre (24, 24), IoU with the prediction 32 / 48
    output[0, 4, 1, 1] = 20
    spared = yolo_loss([output], target, [head], ignore_iou=0.6)["objectness"].item()
    counted = yolo_loss([output], target, [head], ignore_iou=0.7)["objectness"].item()
    assert counted == pytest.approx(bce(3, 0), abs=1e-4)
    assert spared == pytest.approx(0 if ignored else counted, abs=1e-4)


def test_the_cell_of_the_object_is_never_ignored():
    head = Head(((40.0, 40.0),), 16, 1.0, 2)
    output = torch.zeros(1, 7, 3, 4)
    output[:, 4] = -20
    found = yolo_loss([output], torch.tensor([[0.0, 0, 4, 4, 44, 44]]), [head], ignore_iou=0.1)
    assert found["objectness"].item() == pytest.approx(20, abs=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_every_overlapping_prediction_is_spared(seed: int):
    """Against all pairs, with several objects in an image and images without any."""
    outputs, targets = [o.detach() * 0.3 for o in maps(4, seed=seed)], some_targets()
    found = yolo_loss(outputs, targets, HEADS, ignore_iou=0.3, iou_threshold=2.0)  # the best anchors alone
    boxes, _ = decode(outputs, HEADS)
    flat = [o.reshape(4, 2, 8, -1)[:, :, 4].reshape(4, -1) for o in outputs]
    logits = torch.cat(flat, 1)
    best = torch.zeros(logits.shape)
    for row in targets:
        image, b, mine = int(row[0]), row[2:], boxes[int(row[0])]
        shared = (torch.minimum(mine[:, 2:], b[2:]) - torch.maximum(mine[:, :2], b[:2])).clamp(min=0).prod(1)
        iou = shared / ((mine[:, 2:] - mine[:, :2]).prod(1) + (b[2:] - b[:2]).prod() - shared)
        best[image] = torch.maximum(best[image], iou)
    positive = torch.zeros(logits.shape, dtype=torch.bool)
    second = 2 * 3 * 4  # where the second head begins: two anchors of 3 x 4 cells before it
    positive[0, second + 1 * 8 + 1] = True  # 14 x 10 is most like 12 x 12; row 1, column 1
    positive[0, 1 * 4 + 2] = True  # 70 x 55 is most like 60 x 60; row 1, column 2
    positive[2, second + 6 * 8 + 2 * 8 + 4] = True  # both are most like 20 x 40; row 2, column 4
    assert ((best > 0.3) & ~positive).sum() >= 3
    each = F.binary_cross_entropy_with_logits(logits, positive.float(), reduction="none")
    expected = each[positive | (best <= 0.3)].sum() / 3
    assert found["objectness"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert found["objectness"].item() < (each.sum() / 3).item() * 0.99


# --- robustness


def test_a_batch_without_objects_teaches_silence_alone():
    outputs = maps(2)
    found = yolo_loss(outputs, torch.zeros(0, 6), HEADS)
    assert found["box"].item() == 0 and found["class"].item() == 0 and found["objectness"].item() > 0
    sum(found.values(), torch.zeros(())).backward()
    for output, head in zip(outputs, HEADS, strict=True):
        assert output.grad is not None
        parts = output.grad.reshape(2, len(head.anchors), 8, -1)
        assert (parts[:, :, 4] > 0).all() and (parts[:, :, :4] == 0).all() and (parts[:, :, 5:] == 0).all()


def test_every_term_can_be_taken_alone():
    for targets in (some_targets(), torch.zeros(0, 6)):
        for name in ("box", "objectness", "class"):
            outputs = maps(3)
            yolo_loss(outputs, targets, HEADS)[name].backward()
            assert outputs[0].grad is not None and outputs[0].grad.isfinite().all()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_maps_cost_what_their_values_cost(kind: torch.dtype):
    outputs = [o.detach().to(kind).requires_grad_() for o in maps(3)]
    found = yolo_loss(outputs, some_targets(), HEADS)
    same = yolo_loss([o.detach().float() for o in outputs], some_targets(), HEADS)
    for name, value in found.items():
        assert value.dtype == torch.float32 and value.item() == same[name].item()
    sum(found.values(), torch.zeros(())).backward()
    assert all(o.grad is not None and o.grad.dtype == kind and o.grad.isfinite().all() for o in outputs)


def test_autocast_changes_nothing():
    outputs = maps(3)
    plain = yolo_loss(outputs, some_targets(), HEADS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = yolo_loss(outputs, some_targets(), HEADS)
    assert values(mixed) == values(plain)


@pytest.mark.parametrize("sign", [1.0, -1.0, 0.0])
@pytest.mark.parametrize("size", [1e2, 1e4, 6e4])
def test_extreme_maps_have_finite_losses_and_gradients(size: float, sign: float):
    """All logits extreme and alike, or (sign 0) at random."""
    plain = [o.detach() * size if sign == 0 else torch.full_like(o, sign * size) for o in maps(3)]
    outputs = [o.requires_grad_() for o in plain]
    found = yolo_loss(outputs, some_targets(), HEADS)
    assert all(v.isfinite() for v in found.values())
    sum(found.values(), torch.zeros(())).backward()
    assert all(o.grad is not None and o.grad.isfinite().all() for o in outputs)


def test_gradients_of_confidence_are_right_far_from_zero():
    """A sure mistake pulls with full strength, it does not saturate."""
    head = Head(((12.0, 12.0),), 16, 1.0, 2)
    output = torch.zeros(1, 7, 1, 2)
    output[0, 4] = torch.tensor([-300.0, 300.0])
    output[0, 5, 0, 0], output[0, 6, 0, 0] = 300.0, -300.0
    output.requires_grad_()
    found = yolo_loss([output], torch.tensor([[0, 1, 2.0, 2, 14, 14]]), [head])
    (found["objectness"] + found["class"]).backward()
    assert output.grad is not None
    assert output.grad[0, 4, 0].tolist() == [-1, 1] and output.grad[0, 5:, 0, 0].tolist() == [1, -1]


def test_a_few_steps_find_the_objects():
    """Maps alone, as parameters: the loss leads them to boxes that suppression gives back."""
    outputs, targets = maps(3, 0.1), some_targets()[:3]
    optimizer = torch.optim.Adam(outputs, lr=0.1)
    totals: list[float] = []
    for _ in range(120):
        optimizer.zero_grad()
        total = sum(yolo_loss(outputs, targets, HEADS).values(), torch.zeros(()))
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.05 * totals[0] and all(b < a for a, b in pairwise(totals[::30]))
    with torch.inference_mode():
        boxes, scores = decode(outputs, HEADS)
    found = detections(boxes.numpy(), scores.numpy(), 0.5)
    assert [len(f.boxes) for f in found] == [2, 0, 1]
    for image, label, *box in targets.tolist():
        row = found[int(image)].labels.tolist().index(int(label))
        assert np.abs(found[int(image)].boxes[row] - box).max() < 2
