"""The prune stage: group channel pruning with a threshold for each scale group (arXiv 2306.01526)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgec.core.errors import StageError
from edgec.core.network import Network
from edgec.core.norms import norms_behind
from edgec.core.outputs import tensors_of
from edgec.core.patterns import check_patterns
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.pruning import GroupPruned, LayerPruned, PrunePlan, PruneResult, Target
from edgec.core.typed_torch import modules_of
from edgec.env import Env
from edgec.pruning.constants import fold, recalibrate
from edgec.pruning.cost import Cost, LayerShape, cost_of, shapes_of, total
from edgec.pruning.dependency_groups import DependencyGroup, dependency_groups
from edgec.pruning.importance import TrainingData, criterion_of, importance
from edgec.pruning.masks import masks_of
from edgec.pruning.reconstruct import reconstruct
from edgec.pruning.scale_groups import scale_groups
from edgec.pruning.surgery import prune_channels
from edgec.pruning.thresholds import Decision, solve, target_of
from edgec.recipe import Prune
from edgec.tasks.predictor import torch_predictor
from edgec.tasks.protocol import Building

FOLD_IMAGES = 32
TAYLOR_IMAGES = 32  # each a batch: from 16 to 192, IMDN lost the same, within 0.2 dB
BATCH = 16

Scores = Callable[[nn.Module, Sequence[DependencyGroup]], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Plan:
    """What is to be removed: the groups, what stays of each, and what that costs."""

    groups: list[DependencyGroup]
    scales: dict[str, str]
    decision: Decision
    shapes: list[LayerShape]
    before: Cost
    after: Cost


def prune(config: Prune, network: Network, env: Env) -> tuple[Network, PruneResult]:
    """Remove channels.

    The result has the cost before and after, the kept channels by layer and by scale group, the layers that were fitted,
    and the accuracy. Raises StageError where nothing may go, or the target cannot be reached.
    """
    net, place = network.build(), f"stages.{env.stage}"
    plan = make_plan(config, net, env.task, _scores(config, env), place)
    outs, ins = masks_of(plan.groups, plan.decision.kept, net)
    count = max(FOLD_IMAGES, config.recalibrate_batches * BATCH, config.reconstruct_images)
    images = env.task.images("train", count)
    biases = fold(net, outs, ins, images[:FOLD_IMAGES]) if config.fold_bias else {}
    pruned = prune_channels(network, net, outs, ins, biases)
    module = pruned.build()
    _same_outputs(net, module, env.task, place)
    fitted: list[str] = []
    if config.reconstruct_images:
        few = images[: config.reconstruct_images]
        advance = env.events.progress("fitting layers", env.stage)
        fitted = reconstruct(network.build(), module, outs, ins, few, env.seed, advance)
    if config.recalibrate_batches:
        recalibrate(module, images[: config.recalibrate_batches * BATCH], BATCH)
    if fitted or config.recalibrate_batches:
        pruned = pruned.with_weights(module)
    reached = cost_of(module, env.task.example(), config.block)
    if reached.macs != plan.after.macs:
        raise StageError(
            f"{place}: {plan.after.macs} MACs were planned, {reached.macs} came out; this is a bug, please report it"
        )
    final = env.task.evaluate(torch_predictor(module, env.task, env.device), "val")
    return pruned, _result(config, plan, reached, fitted, final)


def _result(config: Prune, plan: Plan, reached: Cost, fitted: Sequence[str], final: Accuracy) -> PruneResult:
    target = target_of(config)
    planned = summary(plan)
    return PruneResult(
        groups=planned.groups,
        layers=planned.layers,
        before=planned.before,
        after=planned.after,
        fitted=tuple(fitted),
        target=None
        if target is None
        else Target(
            of=target[0],
            asked=target[1],
            reached=getattr(reached, target[0]) / getattr(plan.before, target[0]),
            tolerance=config.tolerance,
        ),
        final=final,
    )


def _scores(config: Prune, env: Env) -> Scores:
    """The ranking that the recipe asks for."""

    def loss(net: nn.Module, batch: Any) -> Tensor:
        terms = env.task.losses(net(batch.images), batch, net)
        return torch.stack(list(terms.values())).sum()

    @contextmanager
    def batches() -> Generator[Iterable[Any]]:
        with closing(env.task.batches(1, 1, env.seed)) as opened:
            yield islice(opened.epoch(0), TAYLOR_IMAGES)

    data = TrainingData(batches, loss, f"stages.{env.stage}")
    return lambda net, groups: criterion_of(config.importance, net, groups).scores(net, groups, data)


def ranks_without_data(config: Prune, network: Network, task: Building) -> bool:
    """Whether the run ranks channels as a plan does, which reads no data."""
    net = network.build()
    groups = dependency_groups(net, task.example(), config.ignore)
    return not criterion_of(config.importance, net, groups).reads_data


def make_plan(
    config: Prune, net: nn.Module, task: Building, scores: Scores = importance, place: str = "stages.prune"
) -> Plan:
    """Groups, ranking and thresholds for a network, without changing it. Errors name `place` of the recipe."""
    check_patterns({f"{place}.ignore": config.ignore}, modules_of(net))
    example = task.example()
    groups = dependency_groups(net, example, config.ignore)
    if not groups:
        raise StageError(
            f"{place}: no channels may be removed; check {place}.ignore and the network's outputs"
        )
    scales = scale_groups(net, example, groups, config.groups, place)
    shapes = shapes_of(net, example)
    before = cost_of(net, example, config.block)
    other = before.params - total(shapes, {}, {}, config.block).params

    bare = _layers_without_bias(net, task, shapes) if config.fold_bias else []

    def cost(kept: Mapping[str, np.ndarray]) -> Cost:
        outs, ins = masks_of(groups, kept, net)
        width = _counts(outs)
        folded = sum(width.get(s.name, s.outs) for s in bare if s.name in ins and not ins[s.name].all())
        return total(shapes, width, _counts(ins), config.block, other + folded)

    decision = solve(groups, scores(net, groups), scales, config, cost, place)
    return Plan(groups, scales, decision, shapes, before, cost(decision.kept))


def _layers_without_bias(net: nn.Module, task: Building, shapes: Sequence[LayerShape]) -> list[LayerShape]:
    """The layers that get a bias when constants are folded into them."""
    normed = norms_behind(net, task.example())
    return [s for s in shapes if s.kind in ("conv", "linear") and not s.bias and s.name not in normed]


def _counts(masks: Mapping[str, np.ndarray]) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in masks.items()}


def plan(config: Prune, place: str, network: Network, task: Building, shaped: bool) -> Iterator[str]:
    """For --dry-run: the groups, and what pruning by them would leave; the ranking itself may still change by training.

    Channels are ranked by size, without the data. Raises StageError for a target that this ranking cannot reach, where
    the run ranks likewise.
    """
    try:
        planned = plan_summary(config, network, task, place)
    except StageError as error:
        if ranks_without_data(config, network, task):
            raise
        yield f"ranked by size: {error}; the run ranks by the loss, and may reach it"
        return
    for group in planned.groups:
        yield f"group {group.name}: {group.before} channels, {group.kept} expected to stay"
    before, after = planned.before, planned.after
    yield (
        f"expected {after.params:,} of {before.params:,} parameters, "
        f"{after.macs / 1e6:,.1f} of {before.macs / 1e6:,.1f} M MACs"
    )


def plan_summary(config: Prune, network: Network, task: Building, place: str = "stages.prune") -> PrunePlan:
    """What pruning this network now would leave: groups, parameters, MACs. Ranks by sizes: data is not read."""
    return summary(make_plan(config, network.build(), task, place=place))


def summary(plan: Plan) -> PrunePlan:
    """A plan by scale group and by dependency group, for the result and for `--dry-run`."""
    kept = {c.name: int(plan.decision.kept[c.name].sum()) for c in plan.groups}
    groups: list[GroupPruned] = []
    for group in dict.fromkeys(plan.scales[c.name] for c in plan.groups):
        mine = [c for c in plan.groups if plan.scales[c.name] == group]
        pool = group if group in plan.decision.thresholds else "all"
        groups.append(
            GroupPruned(
                name=group,
                before=sum(c.size for c in mine),
                kept=sum(kept[c.name] for c in mine),
                threshold=plan.decision.thresholds[pool],
                ratio=plan.decision.ratios[pool],
            )
        )
    layers = tuple(
        LayerPruned(
            name=c.name,
            group=plan.scales[c.name],
            before=c.size,
            kept=kept[c.name],
            at_floor=c.name in plan.decision.at_floor,
            layers=tuple(sorted({m.module for m in c.outs() if m.module.rpartition(".")[2] != "bn"})),
        )
        for c in plan.groups
    )
    return PrunePlan(groups=tuple(groups), layers=layers, before=plan.before, after=plan.after)


def _same_outputs(before: nn.Module, after: nn.Module, task: Building, place: str) -> None:
    """The outputs must have the shapes they had: a head that lost channels would be read wrongly."""
    with torch.no_grad():
        old, new = before(task.example()), after(task.example())
    if [o.shape for o in tensors_of(old)] != [o.shape for o in tensors_of(new)]:
        raise StageError(f"{place}: output channels were removed; add the output layers to {place}.ignore")
