"""The distill stage: training from a teacher, as the recipe declares it (torchdistill's way, Matsubara 2021)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, assert_never

import torch
from torch import Tensor, nn

from edgec.core.errors import NetworkError, StageError
from edgec.core.network import Network, resolve_dotted
from edgec.core.results.training import DistillResult
from edgec.core.taps import tapped
from edgec.distillers.affinity import affinity
from edgec.distillers.boxes import boxes
from edgec.distillers.cwd import channel_wise
from edgec.distillers.fitnet import Connector, fitnet
from edgec.distillers.logits import logits
from edgec.distillers.mse import mean_squared
from edgec.distillers.output import output
from edgec.distillers.pkd import pearson
from edgec.distillers.spatial_attention import spatial_attention
from edgec.env import Env
from edgec.recipe import (
    Boxes,
    ChannelWise,
    CustomTerm,
    Distill,
    FeatureAffinity,
    FitNet,
    Logits,
    MeanSquared,
    Output,
    Pearson,
    SpatialAttention,
    Tap,
    TappedTerm,
    Taught,
    Term,
)
from edgec.training.automatic_taps import automatic_taps
from edgec.training.fit import LossFn, fit
from edgec.training.schedules import Position, ramp

Features = Mapping[str, Tensor]
Pair = tuple[str, str, str]  # label, the teacher's module, the student's module


def distill(config: Distill, network: Network, env: Env) -> tuple[Network, DistillResult]:
    """Train a network from a teacher with the recipe's terms, beside the task's loss."""
    student = network.build()
    teacher, digest = teacher_of(config, env)
    check_knowledge(config, student, teacher, env)
    pairs = pairs_of(config, student, teacher, env)
    connectors = make_connectors(config, pairs, student, teacher, env)
    with lesson(config, student, teacher, pairs, connectors, env) as loss:
        result = fit(student, loss, config, env, helpers=connectors if len(connectors) else None)
    return network.with_weights(student), DistillResult.of(result, teacher=digest)


def teacher_of(config: Taught, env: Env) -> tuple[nn.Module, str]:
    """The network that teaches, on the device, and its digest. Raises StageError where there is nothing to learn."""
    if not config.terms and not config.task_loss:
        raise StageError(f"stages.{env.stage}: neither terms nor task_loss; there is nothing to learn from")
    source = Network.load(config.teacher, env.allow_code) if isinstance(config.teacher, Path) else env.dense
    teacher = source.build().to(env.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return teacher.eval(), source.digest


def pairs_of(config: Taught, student: nn.Module, teacher: nn.Module, env: Env) -> list[list[Pair]]:
    """The taps of every term; none for those that compare outputs."""
    return [
        _pairs(term, student, teacher, env) if isinstance(term, TappedTerm) else [] for term in config.terms
    ]


@contextmanager
def lesson(
    config: Taught, student: nn.Module, teacher: nn.Module, pairs: Sequence[Sequence[Pair]], connectors: nn.ModuleDict, env: Env
) -> Iterator[LossFn]:  # fmt: skip
    """The loss of a student: the task's, and the terms against what the teacher makes of the same batch."""
    with ExitStack() as taps:
        seen_s = taps.enter_context(tapped(student, [s for each in pairs for _, _, s in each]))
        seen_t = taps.enter_context(tapped(teacher, [t for each in pairs for _, t, _ in each]))

        def loss(model: nn.Module, batch: Any, at: Position) -> Mapping[str, Tensor]:
            with torch.no_grad():
                taught = env.task.knowledge(teacher(batch.images), teacher)
            outputs = model(batch.images)
            found: dict[str, Tensor] = {}
            if config.task_loss:
                terms = env.task.losses(outputs, batch, student)
                found |= {name: config.task_loss * value for name, value in terms.items()}
            learned = env.task.knowledge(outputs, student)
            for index, (term, each) in enumerate(zip(config.terms, pairs, strict=True)):
                weight = term.weight * ramp(term.schedule, at.fraction)
                match term:
                    case Logits():
                        value = logits(
                            learned["classes"],
                            learned["objectness"],
                            taught["classes"],
                            taught["objectness"],
                            term.temperature,
                        )
                        found[f"logits/{index}"] = weight * value
                    case Boxes():
                        value = boxes(
                            learned["boxes"], taught["boxes"], taught["objectness"], taught["classes"]
                        )
                        found[f"boxes/{index}"] = weight * value
                    case Output():
                        found[f"output/{index}"] = weight * output(learned["output"], taught["output"])
                    case _:
                        measure = _measure(term, batch, env)
                        for label, t, s in each:
                            feature = seen_s[s]
                            key = connector_key(index, label)
                            if key in connectors:
                                feature = connectors[key](feature)
                            name = f"{term.kind}/{label}"  # two terms on one tap add up
                            found[name] = found.get(name, 0) + weight * measure(feature, seen_t[t])
            return found

        yield loss


def _needed(term: Term) -> tuple[str, ...]:
    """What of the task's knowledge a term compares."""
    match term:
        case Logits():
            return "classes", "objectness"
        case Boxes():
            return "classes", "objectness", "boxes"
        case Output():
            return ("output",)
        case _:
            return ()


def check_knowledge(config: Taught, student: nn.Module, teacher: nn.Module, env: Env) -> None:
    """Raises StageError for a term that needs what the networks do not give, NetworkError for outputs that differ."""
    needed = [_needed(term) for term in config.terms]
    if not any(needed):
        return
    example = env.task.example()
    with torch.no_grad():
        learned = env.task.knowledge(student(example), student)
        taught = env.task.knowledge(teacher(example.to(env.device)), teacher)
    for index, (term, names) in enumerate(zip(config.terms, needed, strict=True)):
        missing = [name for name in names if name not in learned]
        if missing:
            raise StageError(
                f"stages.{env.stage}.terms[{index}]: {getattr(term, 'kind', '')} compares {' and '.join(missing)}, "
                f"which networks of this task do not give; there is {', '.join(learned) or 'nothing'}, and features"
            )
        for name in names:
            mine, theirs = ([tuple(t.shape[1:]) for t in each[name]] for each in (learned, taught))
            if mine != theirs:
                raise NetworkError(
                    f"stages.{env.stage}.terms[{index}]: {name} of the teacher have the shapes {theirs}, the student's "
                    f"{mine}; take a teacher with the same outputs, or compare features"
                )


def _measure(term: TappedTerm, batch: Any, env: Env) -> Callable[[Tensor, Tensor], Tensor]:
    """The distance of a student's feature from a teacher's, for a term on taps."""
    match term:
        case SpatialAttention(mask="boxes"):
            return lambda s, t: spatial_attention(s, t, env.task.regions(batch, (t.shape[-2], t.shape[-1])))
        case SpatialAttention():
            return spatial_attention
        case FitNet():
            return fitnet
        case MeanSquared():
            return mean_squared
        case ChannelWise():
            return lambda s, t: channel_wise(s, t, term.temperature)
        case Pearson():
            return pearson
        case FeatureAffinity():
            return lambda s, t: affinity(s, t, term.pool)
        case CustomTerm():
            if not env.allow_code:
                raise StageError(f"stages.{env.stage}: {term.function!r} is your own code; pass --allow-code")
            function = resolve_dotted(term.function)
            return lambda s, t: function(s, t, **term.options)
        case _:
            raise AssertionError(f"no measure for {term.kind}")  # type: ignore[attr-defined]


def _pairs(term: TappedTerm, student: nn.Module, teacher: nn.Module, env: Env) -> list[Pair]:
    """The taps of a term: as declared, or the end of every scale group."""
    if term.taps == "auto":
        example = env.task.example()
        mine = automatic_taps(student, example)
        theirs = automatic_taps(teacher, example)
        shared = [group for group in mine if group in theirs]
        if not shared:
            raise NetworkError(
                "teacher and student share no scale group; name the taps as {teacher: ..., student: ...}"
            )
        return [(group, theirs[group], mine[group]) for group in shared]
    declared: Sequence[str | Tap] = term.taps
    return [(t, t, t) if isinstance(t, str) else (t.student, t.teacher, t.student) for t in declared]


def connector_key(index: int, label: str) -> str:
    return f"{index}_{label}".replace(".", "_")


def make_connectors(
    config: Taught, pairs: Sequence[Sequence[Pair]], student: nn.Module, teacher: nn.Module, env: Env
) -> nn.ModuleDict:
    """A connector for each tap of the terms that compare features channel by channel, where channels differ.

    Hints always get one, as in their paper.
    """
    made = nn.ModuleDict()
    example = env.task.example()
    names_s = [s for each in pairs for _, _, s in each]
    names_t = [t for each in pairs for _, t, _ in each]
    with (
        torch.no_grad(),
        torch.random.fork_rng(),
        tapped(student, names_s) as s,
        tapped(teacher, names_t) as t,
    ):
        torch.manual_seed(env.seed)
        student(example)
        teacher(example.to(env.device))
        for index, (term, each) in enumerate(zip(config.terms, pairs, strict=True)):
            for label, at_t, at_s in each:
                mine, theirs = s[at_s].shape[1], t[at_t].shape[1]
                match term:
                    case FitNet():
                        needed = True
                    case ChannelWise() | Pearson() | MeanSquared():
                        needed = mine != theirs
                    case (
                        SpatialAttention() | FeatureAffinity() | CustomTerm() | Logits() | Boxes() | Output()
                    ):
                        needed = False
                    case other:
                        assert_never(other)
                if needed:
                    made[connector_key(index, label)] = Connector(mine, theirs)
    return made
