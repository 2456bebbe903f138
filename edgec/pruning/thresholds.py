"""Which channels stay: a threshold for each scale group, ranked within the group (arXiv 2306.01526)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgec.core.errors import StageError
from edgec.core.results.pruning import Measure
from edgec.core.results.stage import Cost
from edgec.pruning.dependency_groups import DependencyGroup
from edgec.recipe import Prune

Kept = dict[str, np.ndarray]  # dependency group -> which channels stay, bool [size]


@dataclass(frozen=True)
class Decision:
    """`kept` by dependency group; the threshold and the share removed by scale group; groups held up by a floor."""

    kept: Kept
    thresholds: dict[str, float]
    ratios: dict[str, float]
    at_floor: tuple[str, ...]


def rounded(kept: int, size: int, floor: int, multiple: int) -> int:
    """`kept` channels of `size`, rounded to a multiple, never under the floor, never over the size."""
    floor = min(floor, size)
    nearest = round(kept / multiple) * multiple
    lowest = min(-(-floor // multiple) * multiple, size)
    return min(max(nearest, lowest), size)


def decide(
    groups: Sequence[DependencyGroup],
    scores: Mapping[str, np.ndarray],
    scales: Mapping[str, str],
    ratios: Mapping[str, float],
    config: Prune,
) -> Decision:
    """Cut each scale group at its own quantile; with `threshold: global`, all at one."""
    pools: dict[str, list[str]] = {}
    for group in groups:
        pools.setdefault("all" if config.threshold == "global" else scales[group.name], []).append(group.name)
    cuts: dict[str, float] = {}
    wanted: dict[str, int] = {}  # channels of a group that pass its pool's threshold
    for pool, names in pools.items():
        passing, cuts[pool] = _passing([scores[name] for name in names], ratios[pool])
        wanted.update(zip(names, passing, strict=True))
    kept: Kept = {}
    held: list[str] = []
    for group in groups:
        score = scores[group.name]
        above = wanted[group.name]
        floor = max(1, config.min_channels, int(np.ceil(config.min_share * group.size)))
        count = rounded(above, group.size, floor, config.round_to)
        if ratios["all" if config.threshold == "global" else scales[group.name]] == 0:
            count = group.size  # rounding must not take what the recipe keeps
        if above < min(floor, group.size):
            held.append(group.name)
        stay = np.zeros(group.size, bool)
        stay[np.argsort(-score, kind="stable")[:count]] = True
        kept[group.name] = stay
    return Decision(kept, cuts, dict(ratios), tuple(held))


def _passing(scores: Sequence[np.ndarray], ratio: float) -> tuple[list[int], float]:
    """How many channels of each array are left when the lowest share `ratio` of all goes, and the score of the cut.

    Equal scores (an untrained network) go in turn from all arrays, by their rank within their own.
    """
    pooled = np.concatenate(scores)
    rank = np.concatenate([np.argsort(np.argsort(s, kind="stable"), kind="stable") / len(s) for s in scores])
    owner = np.repeat(np.arange(len(scores)), [len(s) for s in scores])
    order = np.lexsort((rank, pooled))
    gone = round(ratio * len(pooled))
    left = np.bincount(owner[order[gone:]], minlength=len(scores))
    return left.tolist(), float(pooled[order[max(gone - 1, 0)]]) if gone else 0.0


def base_ratios(config: Prune, scales: Mapping[str, str], place: str = "stages.prune") -> dict[str, float]:
    """The share to remove by scale group, as the recipe gives it at `place`. Raises StageError for an unknown group."""
    groups = sorted(set(scales.values()))
    unknown = [name for name in config.ratios if name not in groups]
    if unknown:
        raise StageError(
            f"{place}.ratios: no scale group is called {', '.join(unknown)}; there are {', '.join(groups)}"
        )
    named = ["all"] if config.threshold == "global" else groups
    return {group: config.ratios.get(group, config.ratio) for group in named}


def target_of(config: Prune) -> tuple[Measure, float] | None:
    """("params" | "macs" | "padded_macs", share to keep), or None when ratios alone decide."""
    asked: dict[Measure, float | None] = {
        "params": config.keep_params, "macs": config.keep_macs, "padded_macs": config.keep_padded_macs,
    }  # fmt: skip
    return next(((name, share) for name, share in asked.items() if share is not None), None)


def solve(
    groups: Sequence[DependencyGroup],
    scores: Mapping[str, np.ndarray],
    scales: Mapping[str, str],
    config: Prune,
    cost: Callable[[Kept], Cost],
    place: str = "stages.prune",
) -> Decision:
    """The decision that reaches the recipe's target: the share kept in group g is (1 - ratio_g) ** k, k by bisection.

    `cost` tells what a choice would cost, `place` where the recipe asks for it. Raises StageError with what was reached
    when floors or rounding forbid it.
    """
    ratios = base_ratios(config, scales, place)
    target = target_of(config)
    if target is None:
        return decide(groups, scores, scales, ratios, config)
    name, share = target
    dense = getattr(cost({c.name: np.ones(c.size, bool) for c in groups}), name)
    mildest = min((r for r in ratios.values() if r > 0), default=0.5)
    most = 16 / -float(np.log1p(-mildest))  # there, 1e-7 of every group is left
    low, high = 0.0, most
    best: Decision | None = None
    for _ in range(40):
        k = (low + high) / 2
        powered = {g: 1 - (1 - r) ** k for g, r in ratios.items()}
        decision = decide(groups, scores, scales, powered, config)
        if getattr(cost(decision.kept), name) <= share * dense:
            best, high = decision, k
        else:
            low = k
    reached = getattr(cost(best.kept), name) / dense if best else None
    if best is None or share - (reached or 0) > config.tolerance:
        floors = decide(groups, scores, scales, {g: 1 - (1 - r) ** most for g, r in ratios.items()}, config)
        least = getattr(cost(floors.kept), name) / dense
        held = ", ".join(floors.at_floor[:6]) + (", ..." if len(floors.at_floor) > 6 else "")
        message = (
            f"nearest below is {reached:.3f}" if reached is not None else f"the least possible is {least:.3f}"
        )
        raise StageError(
            f"{place}.keep_{name}: {share} cannot be reached, {message}; at their floor: {held or 'none'}. Lower "
            f"min_channels ({config.min_channels}) or round_to ({config.round_to}), raise ratios, or ask for less"
        )
    return best
