"""Results of the stages that take structure away: pruning of channels, and spatial SVD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from edgec.core.frozen import Frozen
from edgec.core.metric import Metric, short
from edgec.core.results.stage import Cost, StageResult
from edgec.core.results.table import KeptChannels, Section, Table

if TYPE_CHECKING:
    from edgec.core.results.profile import ProfileResult

from edgec.core.results.artifact_id import DENSE, ArtifactId

Measure = Literal["params", "macs", "padded_macs"]
TITLES: dict[Measure, str] = {"params": "parameters", "macs": "MACs", "padded_macs": "padded MACs"}


class GroupPruned(Frozen):
    """One scale group: channels before and kept, the threshold of its scores, the share asked to go."""

    name: str
    before: int
    kept: int
    threshold: float
    ratio: float


class LayerPruned(Frozen):
    """One dependency group: channels that are removed together. `layers`: the modules that put them out."""

    name: str
    group: str
    before: int
    kept: int
    at_floor: bool  # held up by min_channels or min_share
    layers: tuple[str, ...] = ()


class Target(Frozen):
    """What pruning was asked to keep of the network's cost, and what it reached, both as shares of the cost before."""

    of: Measure
    asked: float
    reached: float
    tolerance: float | None = None  # how far below the target the result may lie

    @property
    def missed(self) -> bool:
        return self.reached > self.asked or (
            self.tolerance is not None and self.asked - self.reached > self.tolerance
        )

    @model_serializer(mode="wrap")
    def _without_tolerance(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """JSON has "tolerance" only where there is one."""
        stored: dict[str, Any] = handler(self)
        if self.tolerance is None:
            del stored["tolerance"]
        return stored


class PrunePlan(Frozen):
    """What pruning leaves of a network, before anything is removed."""

    groups: tuple[GroupPruned, ...]
    layers: tuple[LayerPruned, ...]
    before: Cost
    after: Cost


class PruneResult(StageResult):
    """The prune stage. `fitted`: layers that were fitted to the dense network's by least squares."""

    kind: ClassVar[str] = "prune"
    groups: tuple[GroupPruned, ...]
    layers: tuple[LayerPruned, ...]
    before: Cost
    after: Cost
    fitted: tuple[str, ...] = ()
    target: Target | None = None

    @model_serializer(mode="wrap")
    def _without_target(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """JSON has "target" only where one was asked."""
        stored: dict[str, Any] = handler(self)
        if self.target is None:
            del stored["target"]
        return stored

    def flags(self, metric: Metric, profile: ProfileResult | None) -> Sequence[str]:
        flags: list[str] = []
        if self.target is not None and self.target.missed:
            t = self.target
            flags.append(f"kept {t.reached:.3f} of the {TITLES[t.of]}, {t.asked:.3f} were asked")
        if profile is not None:
            flags += profile.slowed(ArtifactId("model", "fp32"), DENSE)
        return flags

    def sections(self, metrics: Sequence[Metric]) -> Sequence[Section]:
        rows = [
            [
                g.name,
                g.before,
                g.kept,
                f"{100 * g.kept / g.before:.1f} %",
                f"{g.threshold:.4f}",
                f"{100 * g.ratio:.1f} %",
            ]
            for g in self.groups
        ]
        tables = [
            Table("Scale groups", ["group", "channels", "kept", "share", "threshold", "asked to go"], rows)
        ]
        if self.target is not None:
            t = self.target
            tables.append(
                Table(
                    "Target",
                    ["of", "asked", "reached"],
                    [[TITLES[t.of], f"{t.asked:.4f}", f"{t.reached:.4f}"]],
                )
            )
        if self.fitted:
            tables.append(
                Table("Layers fitted by least squares", ["layer"], [[name] for name in self.fitted])
            )
        chart = KeptChannels(
            "channels kept",
            [(row.name, row.before, row.kept) for row in self.layers],
            [row.group for row in self.layers],
        )
        return [Section("Channels", tables, [chart])]


class LayerDecomposed(Frozen):
    """One convolution as a column and a row convolution, `rank` channels between them.

    `of`: the full rank; `energy`: the share of the layer's output energy that is kept; `lost`: how far the network's
    outputs move (share of their energy) when this layer alone is decomposed.
    """

    name: str
    rank: int
    of: int
    energy: float
    lost: float


class DecomposeResult(StageResult):
    """The decompose stage."""

    kind: ClassVar[str] = "decompose"
    layers: tuple[LayerDecomposed, ...]
    before: Cost
    after: Cost

    def flags(self, metric: Metric, profile: ProfileResult | None) -> Sequence[str]:
        return [] if profile is None else profile.slowed(ArtifactId("model", "fp32"), DENSE)

    def sections(self, metrics: Sequence[Metric]) -> Sequence[Section]:
        rows = [
            [row.name, row.rank, row.of, f"{100 * row.energy:.2f} %", f"{row.lost:.3g}"]
            for row in sorted(self.layers, key=lambda row: -row.lost)
        ]
        columns = ["layer", "rank", "full rank", "energy kept", "loss at the outputs alone"]
        cost = [[TITLES[m], short(getattr(self.before, m)), short(getattr(self.after, m))] for m in TITLES]
        return [
            Section(
                "Ranks",
                [
                    Table("Decomposed convolutions", columns, rows),
                    Table("Cost", ["of", "before", "after"], cost),
                ],
            )
        ]
