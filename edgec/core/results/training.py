"""Results of the stages that train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field

from edgec.core.frozen import Figure, Frozen
from edgec.core.metric import Metric
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.stage import StageResult
from edgec.core.results.table import Histograms, Lines, Section

if TYPE_CHECKING:
    from edgec.core.results.profile import ProfileResult

MOST_TERMS = 7  # of a loss, in one chart
NEAR_ZERO = 0.01


class Epoch(Frozen):
    """One epoch: mean losses by term, and the accuracy where it was evaluated."""

    epoch: int  # from 0
    losses: dict[str, Figure]
    metrics: Accuracy = Accuracy()


class Trained(StageResult):
    """What any training measured. `final` is the accuracy after the last epoch."""

    curves: tuple[Epoch, ...] = ()
    final: Accuracy | None = Accuracy()
    train_seconds: float = 0.0
    images_per_second: float = 0.0
    skipped_steps: int = 0
    rollbacks: int = 0

    @classmethod
    def of(cls, trained: Trained, **more: Any) -> Self:
        """The result of a stage: what the training loop gave, and the stage's own fields."""
        return cls(**{name: getattr(trained, name) for name in Trained.model_fields} | more)

    def flags(self, metric: Metric, profile: ProfileResult | None) -> Sequence[str]:
        if not self.skipped_steps:
            return ()
        return (f"{self.skipped_steps} steps skipped, {self.rollbacks} rollbacks",)

    def sections(self, metrics: Sequence[Metric]) -> Sequence[Section]:
        charts = [*self._losses(), *self._accuracies(metrics)]
        return [Section("Training", charts=charts)] if charts else []

    def _losses(self) -> list[Lines]:
        """The largest terms of the loss over the epochs."""
        if not self.curves:
            return []
        last = self.curves[-1].losses
        largest = sorted((n for n in last if n != "total"), key=lambda n: -(last[n] or 0))[:MOST_TERMS]
        series = {
            name: [(e.epoch + 1, value) for e in self.curves if (value := e.losses.get(name)) is not None]
            for name in largest
        }
        return [Lines("loss terms", series, "epoch", "weighted loss")]

    def _accuracies(self, metrics: Sequence[Metric]) -> list[Lines]:
        """Accuracy over the epochs that were evaluated, metrics of one unit in one chart."""
        charts: list[Lines] = []
        for unit in dict.fromkeys((m.unit, m.share) for m in metrics):
            series = {
                m.label: [
                    (e.epoch + 1, value) for e in self.curves if (value := e.metrics.get(m.name)) is not None
                ]
                for m in metrics
                if (m.unit, m.share) == unit
            }
            if any(len(points) > 1 for points in series.values()):
                charts.append(Lines(f"{' and '.join(series)} on the validation split", series, "epoch", ""))
        return charts


class TrainResult(Trained):
    """The train stage."""

    kind: ClassVar[str] = "train"


class ChannelSizes(Frozen):
    """Sizes of channels before and after sparse training: batch-norm scales, or norms of filters relative to their layer."""

    signal: Literal["norm_scales", "filter_norms"] = "norm_scales"
    edges: tuple[float, ...]  # of the bins
    before: tuple[int, ...]  # channels in each bin
    after: tuple[int, ...]
    near_zero_before: float  # share of the channels below 0.01
    near_zero_after: float


class SparsifyResult(Trained):
    """The sparsify stage. `gamma`: what sparse training did to the sizes of channels."""

    kind: ClassVar[str] = "sparsify"
    gamma: ChannelSizes = Field()

    def sections(self, metrics: Sequence[Metric]) -> Sequence[Section]:
        g = self.gamma
        norms = g.signal == "filter_norms"
        what = "norms of filters (relative to their layer)" if norms else "batch-norm scales"
        note = (
            f"{100 * g.near_zero_before:.1f} % of the {'norms' if norms else 'scales'} were below {NEAR_ZERO} before, "
            f"{100 * g.near_zero_after:.1f} % after."
        )
        chart = Histograms(
            f"{what} before and after sparse training", g.edges, {"before": g.before, "after": g.after},
            "norm" if norms else "|scale|", note,
        )  # fmt: skip
        return [Section("Channels", charts=[chart]), *super().sections(metrics)]


class DistillResult(Trained):
    """The distill stage. `teacher`: the digest of the network that taught."""

    kind: ClassVar[str] = "distill"
    teacher: str
