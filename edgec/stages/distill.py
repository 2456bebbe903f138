"""The distill stage: training from a teacher, as the recipe declares it (torchdistill's way, Matsubara 2021)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgec.core.errors import NetworkError, StageError
from edgec.core.network import Network
from edgec.core.results.training import DistillResult
from edgec.core.taps import tapped
from edgec.core.typed_torch import move, random_state
from edgec.distillers.catalog import DISTILLERS
from edgec.distillers.distiller import DistillationBatch, DistillerSpec, Observed
from edgec.distillers.term import Tap, TappedTerm, Term
from edgec.env import Env
from edgec.recipe import Distill, DistillationTraining
from edgec.training.automatic_taps import automatic_taps
from edgec.training.fit import LossFn, fit
from edgec.training.schedules import Position, ramp


@dataclass(frozen=True)
class Pair:
    """A tap: the label of its loss, and the modules that are compared."""

    label: str
    teacher: str
    student: str


@dataclass(frozen=True)
class Comparison:
    """A term of the recipe, with its row of the table and its taps; none where outputs are compared."""

    index: int  # in the recipe
    term: Term
    spec: DistillerSpec
    pairs: Sequence[Pair]

    def name(self, label: str) -> str:
        """What the loss of a tap is called; "": of what has no taps."""
        return f"{self.spec.name}/{label or self.index}"

    def observed(
        self, knowledge: Mapping[str, list[Tensor]], seen: Mapping[str, Tensor], teacher: bool
    ) -> Observed:
        """What the term sees of a network on a batch."""
        features = [(p.label, seen[p.teacher if teacher else p.student]) for p in self.pairs]
        return Observed(knowledge, features)


def distill(config: Distill, network: Network, env: Env) -> tuple[Network, DistillResult]:
    """Train a network from a teacher with the recipe's terms, beside the task's loss."""
    student = network.build()
    teacher, digest = teacher_of(config, env)
    comparisons = comparisons_of(config, student, teacher, env)
    check_knowledge(comparisons, student, teacher, env)
    connectors = make_connectors(comparisons, student, teacher, env)
    with distillation_loss(config, student, [teacher], comparisons, connectors, env) as loss:
        result = fit(student, loss, config, env, helpers=connectors if len(connectors) else None)
    return network.with_weights(student), DistillResult.of(result, teacher=digest)


def teacher_of(config: DistillationTraining, env: Env) -> tuple[nn.Module, str]:
    """The network that teaches, on the device, and its digest. Raises StageError where there is nothing to learn."""
    if not config.terms and not config.task_loss:
        raise StageError(f"stages.{env.stage}: neither terms nor task_loss; there is nothing to learn from")
    source = Network.load(config.teacher, env.allow_code) if isinstance(config.teacher, Path) else env.dense
    teacher = move(source.build(), env.device, torch.channels_last)
    return teacher.eval(), source.digest


def comparisons_of(
    config: DistillationTraining, student: nn.Module, teacher: nn.Module, env: Env
) -> list[Comparison]:
    """Every term with its distiller and its taps.

    Raises StageError for a term that runs the user's code without --allow-code, NetworkError where teacher and student
    share no scale group to compare.
    """
    comparisons: list[Comparison] = []
    for index, term in enumerate(config.terms):
        spec = DISTILLERS.row(term.kind)
        if spec.own_code and not env.allow_code:
            raise StageError(
                f"stages.{env.stage}.terms[{index}]: {spec.name} runs your own code; pass --allow-code"
            )
        pairs = _pairs(term, student, teacher, env) if isinstance(term, TappedTerm) else []
        comparisons.append(Comparison(index, term, spec, pairs))
    return comparisons


@contextmanager
def distillation_loss(
    config: DistillationTraining, student: nn.Module, teachers: Sequence[nn.Module], comparisons: Sequence[Comparison],
    connectors: nn.ModuleDict, env: Env,
) -> Generator[LossFn]:  # fmt: skip
    """The loss of a student: the task's, and the terms against what the teachers make of the same batch."""
    pairs = [pair for comparison in comparisons for pair in comparison.pairs]
    modules = {c.index: _modules_of(c, connectors) for c in comparisons}
    with ExitStack() as taps:
        mine = taps.enter_context(tapped(student, [pair.student for pair in pairs]))
        theirs = [taps.enter_context(tapped(each, [pair.teacher for pair in pairs])) for each in teachers]

        def loss(model: nn.Module, batch: Any, at: Position) -> Mapping[str, Tensor]:
            with torch.no_grad():
                taught = [env.task.knowledge(each(batch.images), each) for each in teachers]
            outputs = model(batch.images)
            losses: dict[str, Tensor] = {}
            if config.task_loss:
                terms = env.task.losses(outputs, batch, student)
                losses |= {name: config.task_loss * value for name, value in terms.items()}
            learned = env.task.knowledge(outputs, student)
            for each in comparisons:
                weight = each.term.weight * ramp(each.term.schedule, at.fraction)
                seen = DistillationBatch(
                    each.observed(learned, mine, teacher=False),
                    [each.observed(k, f, teacher=True) for k, f in zip(taught, theirs, strict=True)],
                    lambda size: env.task.regions(batch, size),
                    modules[each.index],
                )
                for label, value in each.spec.terms(each.term, seen):
                    name = each.name(
                        label
                    )  # two terms on one tap, and two taps of one student's module, add up
                    losses[name] = losses.get(name, 0) + weight * value
            return losses

        yield loss


def check_knowledge(
    comparisons: Sequence[Comparison], student: nn.Module, teacher: nn.Module, env: Env
) -> None:
    """Raises StageError for a term that needs what the networks do not give, NetworkError for outputs that differ."""
    if not any(each.spec.knowledge for each in comparisons):
        return
    example = env.task.example()
    with torch.no_grad():
        learned = env.task.knowledge(student(example), student)
        taught = env.task.knowledge(teacher(example.to(env.device)), teacher)
    for each in comparisons:
        place = f"stages.{env.stage}.terms[{each.index}]"
        missing = [name for name in each.spec.knowledge if name not in learned]
        if missing:
            raise StageError(
                f"{place}: {each.spec.name} compares {' and '.join(missing)}, "
                f"which networks of this task do not give; there is {', '.join(learned) or 'nothing'}, and features"
            )
        for name in each.spec.knowledge:
            mine, theirs = ([tuple(t.shape[1:]) for t in of[name]] for of in (learned, taught))
            if mine != theirs:
                raise NetworkError(
                    f"{place}: {name} of the teacher have the shapes {theirs}, the student's "
                    f"{mine}; take a teacher with the same outputs, or compare features"
                )


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
        return [Pair(group, theirs[group], mine[group]) for group in shared]
    declared: Sequence[str | Tap] = term.taps
    return [Pair(t, t, t) if isinstance(t, str) else Pair(t.student, t.teacher, t.student) for t in declared]


def make_connectors(
    comparisons: Sequence[Comparison], student: nn.Module, teacher: nn.Module, env: Env
) -> nn.ModuleDict:
    """What terms train beside the student, from the features of an example; new weights, by the run's seed."""
    connectors = nn.ModuleDict()
    example = env.task.example()
    pairs = [pair for comparison in comparisons for pair in comparison.pairs]
    with (
        torch.no_grad(),
        random_state(env.seed),
        tapped(student, [pair.student for pair in pairs]) as mine,
        tapped(teacher, [pair.teacher for pair in pairs]) as theirs,
    ):
        learned = env.task.knowledge(student(example), student)
        taught = env.task.knowledge(teacher(example.to(env.device)), teacher)
        for each in comparisons:
            if each.spec.modules is not None:
                observed = (
                    each.observed(learned, mine, teacher=False),
                    each.observed(taught, theirs, teacher=True),
                )
                for label, module in each.spec.modules(each.term, *observed).items():
                    connectors[_key(each.index, label)] = module
    return connectors


def _modules_of(comparison: Comparison, connectors: nn.ModuleDict) -> dict[str, nn.Module]:
    """The modules of a term, by tap label."""
    keys = {
        label: _key(comparison.index, label) for label in ("", *(pair.label for pair in comparison.pairs))
    }
    return {label: connectors[key] for label, key in keys.items() if key in connectors}


def _key(index: int, label: str) -> str:
    return f"{index}_{label}".replace(".", "_")
