"""The distill stage: every term, the teacher left alone, connectors beside the student, errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgec.core.errors import NetworkError, StageError
from edgec.core.network import Network
from edgec.core.predictor import Predictor
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.training import Trained
from edgec.core.surgery import Resize, resize
from edgec.env import Env
from edgec.recipe import Distill
from edgec.stages import distill as stage
from edgec.stages.distill import distill
from edgec.testing import TinyBatch, TinyBatches, TinyTask, env_for
from edgec.training.schedules import Position

ANCHORS, CLASSES, SIDE = 2, 3, 16
TAPPED = ["spatial_attention", "fitnet", "mse", "cwd", "pkd", "affinity"]


class Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(outside)
        self.act = nn.LeakyReLU(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class Small(nn.Module):
    """Two blocks, a head; raw maps [n, a * (5 + c), 4, 4] in a list."""

    def __init__(self, width: int = 4, classes: int = CLASSES) -> None:
        super().__init__()
        self.first = Block(3, width)
        self.second = Block(width, 2 * width)
        self.head = nn.Conv2d(2 * width, ANCHORS * (5 + classes), 1)
        self.classes = classes

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.head(self.second(self.first(images)))]


def build(**args: Any) -> nn.Module:
    return Small(**args)


class Maps(TinyBatches):
    """Images of noise, and the raw maps [n, a, 5 + c, 4, 4] to be reached."""

    def epoch(self, index: int) -> Iterator[TinyBatch]:
        generator = torch.Generator().manual_seed(self.seed + index)
        for _ in range(self.steps):
            images = torch.rand(self.batch, 3, SIDE, SIDE, generator=generator)
            yield TinyBatch(images, torch.randn(self.batch, ANCHORS, 5 + CLASSES, 4, 4, generator=generator))


@dataclass
class Noise(TinyTask):
    """Remembers the masks that it gave and the modules that its losses saw."""

    masks: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    saw: list[nn.Module] = field(default_factory=list[nn.Module])

    metric = "map50"
    side = SIDE

    def batches(
        self, batch: int, epochs: int, seed: int, workers: int = 0, rank: int = 0, world: int = 1
    ) -> TinyBatches:
        return Maps(batch, seed, steps=3)

    def losses(self, outputs: Any, batch: TinyBatch, net: nn.Module) -> dict[str, Tensor]:
        self.saw.append(net)
        return {"squares": (outputs[0].unflatten(1, (ANCHORS, -1)) - batch.wanted).square().mean()}

    def knowledge(self, outputs: Any, net: nn.Module) -> dict[str, list[Tensor]]:
        maps = [o.unflatten(1, (ANCHORS, -1)).movedim(2, -1) for o in outputs]
        return {
            "classes": [m[..., 5:] for m in maps],
            "objectness": [m[..., 4] for m in maps],
            "boxes": [m[..., :4] for m in maps],
        }

    def regions(self, batch: TinyBatch, size: tuple[int, int]) -> Tensor:
        self.masks.append(size)
        mask = torch.zeros(len(batch), *size)
        mask[:, : size[0] // 2] = 1
        return mask

    def evaluate(self, predictor: Predictor, split: str, limit: int | None = None) -> Accuracy:
        mean = float(predictor.run(torch.zeros(2, 3, SIDE, SIDE).numpy())[0].mean())
        return Accuracy(values={"map50": mean})


def small(seed: int, **args: Any) -> Network:
    return Network.initial(f"{__name__}:build", args, seed, allow_code=True)


@pytest.fixture(autouse=True)
def own_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    """This file is its own package of architectures."""
    monkeypatch.setattr("edgec.core.architectures.resolve_dotted", lambda name: build)


@pytest.fixture
def env(tmp_path: Path) -> Env:
    env = env_for(Noise(), tmp_path, stage="distill", dense=small(7), seed=3)
    return replace(env, allow_code=False)


def config(*terms: Any, **settings: Any) -> Distill:
    given = {"epochs": 1, "batch": 4, "lr": 0.05, "warmup_epochs": 0, "ema_decay": 0, **settings}
    return Distill.model_validate(
        {**given, "terms": [t if isinstance(t, dict) else {"kind": t} for t in terms]}
    )


def losses(metrics: dict[str, Any]) -> dict[str, float]:
    return metrics["curves"][-1]["losses"]


def test_trains_with_every_term_and_names_them(env: Env) -> None:
    student = small(1)
    network, result = distill(config(*TAPPED, "logits", "boxes"), student, env)
    metrics = result.model_dump(mode="json")
    auto = {f"{kind}/s8" for kind in TAPPED}  # the only scale group of so small a network
    assert set(losses(metrics)) == {"squares", "logits/6", "boxes/7", "total"} | auto
    parts = {n: v for n, v in losses(metrics).items() if n != "total"}
    assert all(v > 0 for v in parts.values())
    assert losses(metrics)["total"] == pytest.approx(sum(parts.values()), rel=1e-4)
    assert metrics["teacher"] == env.dense.digest
    assert metrics["final"] == metrics["curves"][-1]["metrics"] != {}
    assert json.loads(json.dumps(metrics)) == metrics
    assert network.digest != student.digest
    assert set(network.weights) == set(student.weights)  # no connector among them
    assert network.surgeries == student.surgeries


def test_the_teacher_stays_as_it_was(env: Env, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[nn.Module] = []
    monkeypatch.setattr(
        "edgec.core.architectures.resolve_dotted",
        lambda name: lambda **a: built.append(build(**a)) or built[-1],
    )
    distill(config(*TAPPED, "logits", "boxes"), small(1), env)
    student, teacher = built[-2:]
    assert all(torch.equal(v, env.dense.weights[n]) for n, v in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())
    assert not any(m.training for m in teacher.modules())
    assert not [m for net in built for m in net.modules() if m._forward_hooks]
    assert env.task.saw[0] is student  # type: ignore[attr-defined]


def test_an_equal_student_has_nothing_to_learn(env: Env) -> None:
    found = first_terms(env, env.dense, config(*TAPPED, "logits", "boxes", task_loss=0))
    connected = {n for n in found if n.startswith("fitnet")}
    assert connected
    for name in found.keys() - connected:
        assert found[name] == pytest.approx(0, abs=1e-5), name
    assert found[connected.pop()] > 0  # the connector is not trained yet


def first_terms(env: Env, student: Network, settings: Distill) -> dict[str, float]:
    """The terms of the first batch, the student in eval mode."""
    caught: dict[str, float] = {}

    def once(net: nn.Module, loss: Callable[..., Any], config: Distill, env: Env, **rest: Any) -> Trained:
        batch = next(env.task.batches(config.batch, 1, env.seed).epoch(0))
        caught.update({n: v.item() for n, v in loss(net.eval(), batch, Position(0, 2, 1, 2)).items()})
        return Trained()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "fit", once)
        distill(settings, student, env)
    return caught


def test_weights_and_schedules_multiply(env: Env) -> None:
    def at_half(**settings: Any) -> float:
        (value,) = first_terms(env, small(1), config({"kind": "logits", **settings}, task_loss=0)).values()
        return value

    whole = at_half()
    assert at_half(weight=4) == pytest.approx(4 * whole, rel=1e-5)
    assert at_half(weight=0) == 0
    for schedule in ("linear_down", "cosine_down", "linear_up"):
        assert at_half(schedule=schedule) == pytest.approx(0.5 * whole, rel=1e-5)


def test_two_taps_of_one_module_are_weighed_one_by_one_and_then_added(env: Env) -> None:
    """One term with both taps is, to the last bit, two terms with one each."""
    taps = [{"teacher": teacher, "student": "second"} for teacher in ("first", "second")]
    for weight in (0.1, 0.3, 0.7, 1.3, 3.3, 7.7):
        of = {"kind": "spatial_attention", "weight": weight}
        together = first_terms(env, small(1), config({**of, "taps": taps}, task_loss=0))
        apart = first_terms(env, small(1), config(*({**of, "taps": [tap]} for tap in taps), task_loss=0))
        assert together == apart


def test_the_tasks_loss_has_its_weight(env: Env) -> None:
    one = first_terms(env, small(1), config("logits"))["squares"]
    assert first_terms(env, small(1), config("logits", task_loss=2.5))["squares"] == pytest.approx(2.5 * one)
    assert "squares" not in first_terms(env, small(1), config("logits", task_loss=0))


def test_a_term_pulls_the_student_to_the_teacher(env: Env) -> None:
    settings = config({"kind": "logits", "weight": 1.0}, task_loss=0, epochs=12)
    _, result = distill(settings, small(1), env)
    metrics = result.model_dump(mode="json")
    first, last = (metrics["curves"][i]["losses"]["logits/0"] for i in (0, -1))
    assert last < 0.7 * first


def test_a_pruned_student_learns_from_its_wider_teacher(env: Env) -> None:
    net = small(1).build()
    resize(net.get_submodule("first.conv"), {"out_channels": 3})
    resize(net.get_submodule("first.bn"), {"num_features": 3})
    resize(net.get_submodule("second.conv"), {"in_channels": 3})
    for name in ("first.conv", "second.conv"):
        weight = net.get_parameter(f"{name}.weight")
        nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(0))
    nn.init.ones_(net.get_parameter("first.bn.weight"))
    changes = {
        "first.conv": {"out_channels": 3},
        "first.bn": {"num_features": 3},
        "second.conv": {"in_channels": 3},
    }
    student = small(1).with_surgery(Resize(changes), net)
    terms = [{"kind": kind, "taps": ["first"]} for kind in TAPPED]
    network, result = distill(config(*terms), student, env)
    metrics = result.model_dump(mode="json")
    assert {n for n in losses(metrics) if "/" in n} == {f"{kind}/first" for kind in TAPPED}
    assert network.weights["first.conv.weight"].shape[0] == 3


def test_connectors_only_where_they_are_needed(env: Env, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    fit = stage.fit

    def watch(*args: Any, helpers: Any = None) -> Any:
        given.append(helpers)
        convs = [c.conv.weight for c in helpers.values()] if helpers else []
        before = [w.detach().clone() for w in convs]
        result = fit(*args, helpers=helpers)
        assert not any(torch.equal(w, b) for w, b in zip(convs, before, strict=True))
        return result

    monkeypatch.setattr(stage, "fit", watch)
    taps = ["first", "second"]
    distill(config(*({"kind": k, "taps": taps} for k in TAPPED)), small(1), env)
    assert set(given.pop()) == {"1_first", "1_second"}  # fitnet always has them
    wider = replace(env, scratch=env.scratch / "wider")
    distill(config(*({"kind": k, "taps": taps} for k in TAPPED)), small(1, width=6), wider)
    assert {key[0] for key in given.pop()} == {"1", "2", "3", "4"}
    distill(config("spatial_attention", "logits"), small(1), replace(env, scratch=env.scratch / "other"))
    assert given.pop() is None


def test_the_same_seed_gives_the_same_student(env: Env) -> None:
    settings = config("fitnet", "logits")
    runs = [distill(settings, small(1), replace(env, scratch=env.scratch / str(k)))[0] for k in range(2)]
    assert runs[0].digest == runs[1].digest


def test_taps_by_name_and_by_pair(env: Env) -> None:
    taps: list[Any] = ["first", {"teacher": "first", "student": "second"}]
    _, result = distill(config({"kind": "spatial_attention", "taps": taps}), small(1), env)
    metrics = result.model_dump(mode="json")
    assert {n for n in losses(metrics) if "/" in n} == {
        "spatial_attention/first",
        "spatial_attention/second",
    }


def test_boxes_mask_the_attention(env: Env) -> None:
    plain = {"kind": "spatial_attention", "taps": ["first"]}
    whole = first_terms(env, small(1), config(plain))
    assert env.task.masks == []  # type: ignore[attr-defined]
    masked = first_terms(env, small(1), config({**plain, "mask": "boxes"}))
    assert env.task.masks == [(8, 8)]  # type: ignore[attr-defined]
    assert whole["spatial_attention/first"] != masked["spatial_attention/first"]


def test_the_teacher_may_be_a_saved_network(env: Env, tmp_path: Path) -> None:
    other = small(9, width=6)
    other.save(tmp_path / "other")
    _, result = distill(
        config("spatial_attention", teacher=tmp_path / "other"), small(1), replace(env, allow_code=True)
    )
    metrics = result.model_dump(mode="json")
    assert metrics["teacher"] == other.digest != env.dense.digest
    with pytest.raises(NetworkError, match="allow-code"):
        distill(config("logits", teacher=tmp_path / "other"), small(1), env)
    with pytest.raises(NetworkError, match="not found"):
        distill(config("logits", teacher=tmp_path / "nothing"), small(1), env)


def absolute(student: Tensor, teacher: Tensor, power: float = 1.0) -> Tensor:
    return (student - teacher).abs().pow(power).mean()


def test_ones_own_term_needs_permission(env: Env, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "edgec.core.architectures.resolve_dotted", lambda name: {"mine:absolute": absolute}.get(name, build)
    )
    term = {"kind": "custom", "function": "mine:absolute", "taps": ["first"], "options": {"power": 2.0}}
    with pytest.raises(
        StageError, match=r"stages\.distill\.terms\[0\]: custom runs your own code; pass --allow-code"
    ):
        distill(config(term), small(1), env)
    allowed = replace(env, allow_code=True)
    squared = first_terms(allowed, small(1), config(term))["custom/first"]
    plain = first_terms(allowed, small(1), config({**term, "options": {}}))["custom/first"]
    assert 0 < squared != plain


def test_what_cannot_be_done_is_said(env: Env) -> None:
    with pytest.raises(StageError, match=r"stages\.distill: neither terms nor task_loss"):
        distill(config(task_loss=0), small(1), env)
    with pytest.raises(NetworkError, match=r"tap 'frist' .* did you mean first"):
        distill(config({"kind": "cwd", "taps": ["frist"]}), small(1), env)


def test_half_precision_trains_too(env: Env) -> None:
    _, result = distill(config(*TAPPED, "logits", "boxes", precision="bf16"), small(1), env)
    metrics = result.model_dump(mode="json")
    assert metrics["skipped_steps"] == 0
    assert all(0 < v < 1e6 for v in losses(metrics).values())


def test_the_teacher_runs_under_the_same_autocast(env: Env, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: set[torch.dtype] = set()

    def watch(student: Tensor, teacher: Tensor) -> Tensor:
        kinds.update({student.dtype, teacher.dtype})
        assert not teacher.requires_grad
        return student.float().sum() * 0

    monkeypatch.setattr("edgec.distillers.pkd.pearson", watch)
    distill(config({"kind": "pkd", "taps": ["head"]}, precision="bf16"), small(1), env)
    assert kinds == {torch.bfloat16}


def test_two_terms_on_one_tap_both_count(env: Env) -> None:
    term = {"kind": "spatial_attention", "taps": ["first"]}
    one = sum(first_terms(env, small(1), config(term, task_loss=0)).values())
    both = sum(first_terms(env, small(1), config(term, {**term, "mask": "boxes"}, task_loss=0)).values())
    masked = sum(first_terms(env, small(1), config({**term, "mask": "boxes"}, task_loss=0)).values())
    assert both == pytest.approx(one + masked, rel=1e-4)


def test_a_teacher_with_other_classes_is_refused(env: Env) -> None:
    with pytest.raises(NetworkError, match="classes"):
        distill(config("logits"), small(1), replace(env, dense=small(2, classes=CLASSES + 1)))


def test_a_teacher_with_one_class_is_refused(env: Env) -> None:
    with pytest.raises(NetworkError, match="classes"):
        distill(config("logits"), small(1), replace(env, dense=small(2, classes=1)))


class Pairs(TinyBatches):
    """Images of noise, and the same twice as large."""

    def epoch(self, index: int) -> Iterator[TinyBatch]:
        generator = torch.Generator().manual_seed(self.seed + index)
        for _ in range(self.steps):
            images = torch.rand(self.batch, 3, 8, 8, generator=generator)
            yield TinyBatch(images, images.repeat_interleave(2, 2).repeat_interleave(2, 3))


@dataclass
class Images(Noise):
    """The same noise for a network that gives images: no heads to take apart."""

    side = 8

    def batches(
        self, batch: int, epochs: int, seed: int, workers: int = 0, rank: int = 0, world: int = 1
    ) -> TinyBatches:
        return Pairs(batch, seed, steps=3)

    def losses(self, outputs: Any, batch: TinyBatch, net: nn.Module) -> dict[str, Tensor]:
        return {"l1": (outputs - batch.wanted).abs().mean()}

    def knowledge(self, outputs: Any, net: nn.Module) -> dict[str, list[Tensor]]:
        return {"output": [outputs]}

    def evaluate(self, predictor: Predictor, split: str, limit: int | None = None) -> Accuracy:
        mean = float(predictor.run(torch.zeros(1, 3, 8, 8).numpy())[0].mean())
        return Accuracy(values={"psnr": mean})


def upscaler(seed: int, scale: int = 2, features: int = 16) -> Network:
    return Network.initial("imdn", {"scale": scale, "features": features, "blocks": 2}, seed)


@pytest.fixture
def images_env(env: Env) -> Env:
    return replace(env, task=Images(), dense=upscaler(7))


IMAGE_TERMS = ["output", "affinity", "spatial_attention", "cwd"]


def test_a_network_that_gives_images_learns_from_outputs_and_blocks(images_env: Env) -> None:
    student = upscaler(1, features=8)
    network, result = distill(config(*IMAGE_TERMS, optimizer="adamw", lr=1e-3), student, images_env)
    metrics = result.model_dump(mode="json")
    tapped = {f"{kind}/blocks_{i}" for kind in IMAGE_TERMS[1:] for i in range(2)}
    assert set(losses(metrics)) == {"l1", "output/0", "total"} | tapped
    assert all(v > 0 for v in losses(metrics).values())
    assert set(network.weights) == set(student.weights)


def test_an_equal_student_has_no_image_to_learn(images_env: Env) -> None:
    found = first_terms(images_env, images_env.dense, config("output", "affinity", task_loss=0))
    assert len(found) == 3
    assert all(v == pytest.approx(0, abs=1e-6) for v in found.values())


def test_affinity_has_its_pool(images_env: Env) -> None:
    found = [
        first_terms(images_env, upscaler(1), config({"kind": "affinity", "pool": pool}, task_loss=0))
        for pool in (2, 8)
    ]
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("kind", "missing"), [("logits", "classes and objectness"), ("boxes", "classes and objectness and boxes")]
)
def test_terms_of_heads_are_refused_for_images(images_env: Env, kind: str, missing: str) -> None:
    with pytest.raises(
        StageError,
        match=rf"stages\.distill\.terms\[1\]: {kind} compares {missing}, .*; there is output, and features",
    ):
        distill(config("affinity", kind), upscaler(1), images_env)
    assert not list(images_env.scratch.iterdir())  # nothing was trained


def test_outputs_are_refused_for_heads(env: Env) -> None:
    with pytest.raises(
        StageError,
        match=r"terms\[0\]: output compares output, .*; there is classes, objectness, boxes, and features",
    ):
        distill(config("output"), small(1), env)


def test_a_teacher_of_another_scale_is_refused(images_env: Env) -> None:
    with pytest.raises(NetworkError, match=r"output of the teacher .*\(3, 16, 16\).*\(3, 24, 24\)"):
        distill(config("output"), upscaler(1, scale=3), images_env)
