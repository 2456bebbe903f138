"""What a distiller is: a row that ties a recipe's term to what it compares, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from edgec.distillers.term import Term

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Observed:
    """One network on one batch."""

    knowledge: Mapping[str, Sequence[Tensor]]  # its outputs, taken apart by the task
    features: Sequence[
        tuple[str, Tensor]
    ] = ()  # [n, c, h, w] with the tap's label, in the order of the term's taps


@dataclass(frozen=True)
class DistillationBatch:
    """What a term sees of one batch."""

    student: Observed
    teachers: Sequence[Observed]  # one or more, with the same taps
    regions: Callable[
        [tuple[int, int]], Tensor
    ]  # mask [n, h, w] in 0..1 of where objects are, at a map's size
    modules: Mapping[str, nn.Module] = field(
        default_factory=dict[str, "nn.Module"]
    )  # the term's own, by label

    @property
    def teacher(self) -> Observed:
        """The first teacher."""
        return self.teachers[0]


Losses: TypeAlias = "Sequence[tuple[str, Tensor]]"  # scalars with their taps' labels


@dataclass(frozen=True)
class DistillerSpec:
    """One distiller.

    `terms(term, batch)` gives a scalar for each tap with its label, or ("", value) for what has no taps. The stage weighs
    each by itself, names it "kind/label", and adds up those of one name. `modules(term, student, teacher)` makes what
    trains beside the student (connectors), by tap label, from the features of an example.
    """

    name: str
    term: type[Term]
    terms: Callable[[Any, DistillationBatch], Losses]
    knowledge: tuple[str, ...] = ()  # of the task, that it compares
    modules: Callable[[Any, Observed, Observed], Mapping[str, nn.Module]] | None = None
    own_code: bool = False  # runs the user's function, behind --allow-code


def each_tap(batch: DistillationBatch, distance: Callable[[Tensor, Tensor], Tensor]) -> Losses:
    """A distance of the student's feature from the teacher's at every tap; the mean over several teachers.

    Features go through the term's module of their label first, where there is one.
    """
    losses: list[tuple[str, Tensor]] = []
    for index, (label, feature) in enumerate(batch.student.features):
        if label in batch.modules:
            feature = batch.modules[label](feature)
        losses.append((label, _mean([distance(feature, each.features[index][1]) for each in batch.teachers])))
    return losses


def mean_over_teachers(batch: DistillationBatch, distance: Callable[[Observed], Tensor]) -> Losses:
    """The mean of a distance from each teacher, for what has no taps."""
    return [("", _mean([distance(teacher) for teacher in batch.teachers]))]


def _mean(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else sum(values[1:], values[0]) / len(values)
