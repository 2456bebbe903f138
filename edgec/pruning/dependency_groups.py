"""Dependency groups: channels that must be removed together (Fang et al. 2023, arXiv 2301.12900).

Layers are joined by shortcuts, concatenation or depthwise convolutions; torch-pruning's dependency graph finds them.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch_pruning as tp
from torch import Tensor, nn

from edgec.core.errors import NetworkError
from edgec.core.patterns import matches
from edgec.core.typed_torch import modules_of
from edgec.pruning.channels import is_depthwise
from edgec.pruning.pixel_shuffle import SHUFFLES, shuffles
from edgec.pruning.trace import executed, output_layers

PRUNABLE = (nn.Conv2d, nn.BatchNorm2d, nn.Linear, nn.PReLU)


@dataclass(frozen=True)
class Member:
    """A layer's channels that belong to a dependency group: channel[i] of the layer is root[i] of the group."""

    module: str
    side: Literal["out", "in"]
    channel: tuple[int, ...]
    root: tuple[int, ...]
    pooled: bool = False  # works on pooled statistics, as the layers of an attention's gates do


@dataclass(frozen=True)
class DependencyGroup:
    """Channels 0..size-1 that go together through all members."""

    name: str  # the convolution that makes them: the narrowest, of those the first
    size: int
    members: tuple[Member, ...]

    def outs(self) -> list[Member]:
        return [m for m in self.members if m.side == "out"]


def dependency_groups(net: nn.Module, example: Tensor, ignore: Sequence[str] = ()) -> list[DependencyGroup]:
    """The dependency groups that may be pruned, in the order of execution.

    Left out: channels that are outputs of the network, those of grouped convolutions, and those of modules that
    match a pattern of `ignore`. Raises NetworkError when the network cannot be traced.
    """
    net = copy.deepcopy(net).cpu().eval()
    for parameter in net.parameters():
        parameter.requires_grad_(True)  # layers without gradient would silently be left out
    names = {module: name for name, module in modules_of(net).items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # bare parameters: their groups stay whole
            graph = tp.DependencyGraph().build_dependency(
                net, example_inputs=example.cpu(), customized_pruners=shuffles(net, example)
            )
        raw = list(graph.get_all_groups(ignored_layers=[], root_module_types=[nn.Conv2d]))
    except (RuntimeError, IndexError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise NetworkError(
            f"the network's channel dependencies cannot be traced ({type(error).__name__}: {error}); write a split or a "
            "chunk of channels as parallel convolutions"
        ) from error
    layers = executed(net, example)
    order = {e.name: index for index, e in enumerate(layers)}
    pooled = {e.name for e in layers if e.pooled}
    outputs = set(output_layers(net, example))
    groups: list[DependencyGroup] = []
    for group in raw:
        members = _members(graph, group, names, pooled)
        modules = {m.module for m in members}
        outs = {m.module for m in members if m.side == "out"}
        free = any(m.side == "in" for m in members) and not outs & outputs
        grouped = any(_is_grouped(net.get_submodule(name)) for name in modules)
        if not free or grouped or _rigid(group, names):
            continue
        for part in _parts(net, members, order):
            if not any(matches(m.module, ignore) for m in part.outs()):
                groups.append(part)
    return sorted(groups, key=lambda c: order.get(c.name, len(order)))


def _rigid(group: Any, names: Mapping[nn.Module, str]) -> bool:
    """Whether a layer is among them whose channels cannot be cut: a group norm, a bare parameter, a PixelShuffle."""
    targets = [item.dep.target.module for item in group]
    return any(
        isinstance(t, (nn.Parameter, *SHUFFLES))
        or (t in names and not isinstance(t, PRUNABLE) and any(True for _ in t.parameters()))
        for t in targets
    )


def _parts(net: nn.Module, members: Sequence[Member], order: Mapping[str, int]) -> list[DependencyGroup]:
    """One dependency group per narrowest convolution that makes the channels.

    A shortcut over a concatenation ties several convolutions to a wide one; taken apart, floors and rounding hold
    for each, and none can be emptied.
    """
    makers: dict[int, tuple[int, int, str]] = {}
    for m in members:
        if m.side == "out" and isinstance(net.get_submodule(m.module), nn.Conv2d):
            width = (len(m.root), order.get(m.module, len(order)), m.module)
            for root in m.root:
                makers[root] = min(makers.get(root, width), width)
    parts: list[DependencyGroup] = []
    for maker in dict.fromkeys(makers.values()):
        index = {root: i for i, root in enumerate(r for r in sorted(makers) if makers[r] == maker)}
        mine: list[Member] = []
        for m in members:
            pairs = [(c, index[r]) for c, r in zip(m.channel, m.root, strict=True) if r in index]
            if pairs:
                channel, root = zip(*pairs, strict=True)
                mine.append(replace(m, channel=channel, root=root))
        parts.append(DependencyGroup(maker[2], len(index), tuple(mine)))
    return parts


def _members(graph: Any, group: Any, names: Mapping[nn.Module, str], pooled: Collection[str]) -> list[Member]:
    """The real layers of a torch-pruning group, merged by layer and side."""
    merged: dict[tuple[str, Literal["out", "in"]], dict[int, int]] = {}
    for item in group:
        module = item.dep.target.module
        if module not in names or not isinstance(module, PRUNABLE):
            continue
        if isinstance(module, nn.PReLU) and module.num_parameters == 1:
            continue  # one slope for all channels
        side: Literal["out", "in"] = "out" if graph.is_out_channel_pruning_fn(item.dep.handler) else "in"
        pairs = merged.setdefault((names[module], side), {})
        pairs.update(zip((int(i) for i in item.idxs), (int(r) for r in item.root_idxs), strict=True))
    return [
        Member(name, side, tuple(pairs), tuple(pairs.values()), name in pooled)
        for (name, side), pairs in merged.items()
    ]


def _is_grouped(module: nn.Module) -> bool:
    """A convolution with groups that is not depthwise."""
    return isinstance(module, nn.Conv2d) and module.groups > 1 and not is_depthwise(module)
