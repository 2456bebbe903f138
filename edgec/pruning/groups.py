"""Which channels go together.

Coupling groups: channels that must be removed together, because layers are joined by shortcuts, concatenation or
depthwise convolutions; found by torch-pruning's dependency graph. Scale groups: sets of coupling groups that
share one threshold (Chu et al., arXiv 2306.01526): the network cut by the scale of its feature maps. A network that
makes images has no such scales (IMDN stays at one resolution): there each part of the network, such as a block of a
list of blocks, is a group.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn

from edgec.core.errors import NetworkError
from edgec.core.outputs import tensors_of
from edgec.core.patterns import check_patterns, matches
from edgec.pruning.network_parts import group_name, is_block, part_of
from edgec.pruning.pixel_shuffle import SHUFFLES, shuffles

PRUNABLE = (nn.Conv2d, nn.BatchNorm2d, nn.Linear, nn.PReLU)


@dataclass(frozen=True)
class Member:
    """A layer's channels that belong to a coupling group: channel[i] of the layer is root[i] of the group."""

    module: str
    side: Literal["out", "in"]
    channel: tuple[int, ...]
    root: tuple[int, ...]
    pooled: bool = False  # works on pooled statistics, as the layers of an attention's gates do


@dataclass(frozen=True)
class Coupling:
    """Channels 0..size-1 that go together through all members."""

    name: str  # the convolution that makes them: the narrowest, of those the first
    size: int
    members: tuple[Member, ...]

    def outs(self) -> list[Member]:
        return [m for m in self.members if m.side == "out"]


def coupling_groups(net: nn.Module, example: Tensor, ignore: Sequence[str] = ()) -> list[Coupling]:
    """The coupling groups that may be pruned, in the order of execution.

    Left out: channels that are outputs of the network, those of grouped convolutions, and those of modules that
    match a pattern of `ignore`. Raises NetworkError when the network cannot be traced.
    """
    net = copy.deepcopy(net).cpu().eval()
    for parameter in net.parameters():
        parameter.requires_grad_(True)  # layers without gradient would silently be left out
    names = {module: name for name, module in net.named_modules()}
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
    found: list[Coupling] = []
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
                found.append(part)
    return sorted(found, key=lambda c: order.get(c.name, len(order)))


def _rigid(group: Any, names: Mapping[nn.Module, str]) -> bool:
    """Whether a layer is among them whose channels cannot be cut: a group norm, a bare parameter, a PixelShuffle."""
    targets = [item.dep.target.module for item in group]
    return any(
        isinstance(t, (nn.Parameter, *SHUFFLES))
        or (t in names and not isinstance(t, PRUNABLE) and any(True for _ in t.parameters()))
        for t in targets
    )


def _parts(net: nn.Module, members: Sequence[Member], order: Mapping[str, int]) -> list[Coupling]:
    """One coupling for each narrowest convolution that makes the channels.

    A shortcut over a concatenation ties several convolutions to a wide one; taken apart, floors and rounding hold
    for each, and none can be emptied.
    """
    makers: dict[int, tuple[int, int, str]] = {}
    for m in members:
        if m.side == "out" and isinstance(net.get_submodule(m.module), nn.Conv2d):
            width = (len(m.root), order.get(m.module, len(order)), m.module)
            for root in m.root:
                makers[root] = min(makers.get(root, width), width)
    parts: list[Coupling] = []
    for maker in dict.fromkeys(makers.values()):
        index = {root: i for i, root in enumerate(r for r in sorted(makers) if makers[r] == maker)}
        mine: list[Member] = []
        for m in members:
            pairs = [(c, index[r]) for c, r in zip(m.channel, m.root, strict=True) if r in index]
            if pairs:
                channel, root = zip(*pairs, strict=True)
                mine.append(replace(m, channel=channel, root=root))
        parts.append(Coupling(maker[2], len(index), tuple(mine)))
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


def is_depthwise(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.groups == module.in_channels == module.out_channels
        and module.groups > 1
    )


@dataclass(frozen=True)
class Executed:
    """A convolution in the order of execution, with what it does to the resolution."""

    name: str
    stride: float  # of its output against the input image
    downsamples: bool
    pooled: bool  # gives one place for the whole image


def executed(net: nn.Module, example: Tensor) -> list[Executed]:
    """The convolutions as they are run. Raises NetworkError for one that runs twice: its channels are shared."""
    names = {m: n for n, m in net.named_modules()}
    found: list[Executed] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if any(e.name == names[module] for e in found):
            raise NetworkError(
                f"{names[module]} runs twice in one pass; give each use a convolution of its own"
            )
        pooled = output.shape[-1] == 1 and example.shape[-1] > 1
        small = pooled and example.shape[-1] > 64  # squeeze and excitation: no scale of its own
        stride = (found[-1].stride if found else 1.0) if small else example.shape[-1] / output.shape[-1]
        shrinks = not small and output.shape[-1] < inputs[0].shape[-1]
        found.append(Executed(names[module], stride, shrinks, pooled))

    handles = [m.register_forward_hook(note) for m in net.modules() if isinstance(m, nn.Conv2d)]
    training = net.training
    try:
        net.eval()  # a pass in training mode would move the batch norms' statistics
        with torch.no_grad():
            net(example.to(next(net.parameters()).device))
    finally:
        net.train(training)
        for handle in handles:
            handle.remove()
    return found


def output_layers(net: nn.Module, example: Tensor) -> list[str]:
    """Layers whose output is an output of the network."""
    made: dict[int, str] = {}
    kept: list[Tensor] = []
    names = {m: n for n, m in net.named_modules()}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept.append(output)  # alive, so that no other tensor takes its id
        made[id(output)] = names[module]

    handles = [m.register_forward_hook(note) for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    training = net.training
    try:
        net.eval()
        with torch.no_grad():
            outputs = net(example.to(next(net.parameters()).device))
    finally:
        net.train(training)
        for handle in handles:
            handle.remove()
    return [made[id(o)] for o in tensors_of(outputs) if id(o) in made]


def scale_of(net: nn.Module, example: Tensor) -> dict[str, str]:
    """The scale group of every convolution: down to stride 8 together, then one for each deeper stride of the
    backbone, then the top-down path, then the bottom-up path.

    For YOLOv4 these are the cuts of arXiv 2306.01526. In a network that makes images and stays above stride 8, the
    groups are its parts (`part_of`), named like `blocks_0`.
    """
    layers = executed(net, example)
    if _makes_images(net, example, layers):
        return {e.name: group_name(part_of(net, e.name)) for e in layers}
    phase, deepest = "down", 8.0
    groups: dict[str, str] = {}
    for e in layers:
        if phase == "down" and e.stride < deepest and deepest > 8:
            phase = "top_down"
        elif phase == "top_down" and e.downsamples:
            phase = "bottom_up"
        deepest = max(deepest, e.stride)
        groups[e.name] = f"s{int(deepest)}" if phase == "down" else phase
    return groups


def _makes_images(net: nn.Module, example: Tensor, layers: Sequence[Executed]) -> bool:
    """Whether the output is one map no smaller than the input, and no map on the way as small as an eighth of it."""
    training = net.training
    try:
        net.eval()
        with torch.no_grad():
            output = net(example.to(next(net.parameters()).device))
    finally:
        net.train(training)
    if not isinstance(output, Tensor) or output.ndim != 4 or output.shape[-1] < example.shape[-1]:
        return False
    return all(e.stride < 8 or e.pooled for e in layers)


def scale_groups(
    net: nn.Module,
    example: Tensor,
    couplings: Sequence[Coupling],
    named: Literal["auto"] | Mapping[str, Sequence[str]],
    place: str = "stages.prune",
) -> dict[str, str]:
    """The scale group of each coupling group, by its first convolution; `named` gives patterns of module names.

    Raises StageError for a pattern that matches nothing, which names `place` of the recipe. Couplings that no pattern
    matches form "other".
    """
    if named == "auto":
        scales = scale_of(net, example)
        return {c.name: scales[c.name] for c in couplings}
    everything = [name for name, m in net.named_modules() if isinstance(m, nn.Conv2d)]
    check_patterns(
        {f"{place}.groups.{group}": each for group, each in named.items()}, everything, "convolution"
    )
    return {
        c.name: next((g for g, patterns in named.items() if matches(c.name, patterns)), "other")
        for c in couplings
    }


def automatic_taps(net: nn.Module, example: Tensor) -> dict[str, str]:
    """Where attention is compared: the last block of every scale group, by group.

    The block is the convolution's parent when that normalises or activates its output. In a network that makes
    images: the outputs of the blocks that stand in a list, or, without a list, of all parts that are followed by another.
    """
    layers = executed(net, example)
    if _makes_images(net, example, layers):
        parts = list(dict.fromkeys(part_of(net, e.name) for e in layers))
        blocks = [part for part in parts if "." in part and is_block(net.get_submodule(part))]
        return {group_name(part): part for part in blocks or parts[:-1]}
    outputs = set(output_layers(net, example))
    last: dict[str, str] = {}
    for name, group in scale_of(net, example).items():
        if name not in outputs:
            last[group] = name
    return {group: _block_of(net, name) for group, name in last.items()}


def _block_of(net: nn.Module, name: str) -> str:
    parent = name.rpartition(".")[0]
    children = dict(net.get_submodule(parent).named_children()) if parent else {}
    return parent if {"bn", "act"} & set(children) else name


def masks_of(
    couplings: Sequence[Coupling], kept: Mapping[str, np.ndarray], net: nn.Module
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(outs, ins): for every layer that is touched, which of its output and input channels stay, as bool arrays."""
    outs: dict[str, np.ndarray] = {}
    ins: dict[str, np.ndarray] = {}
    for coupling in couplings:
        stay = kept[coupling.name]
        for member in coupling.members:
            module = net.get_submodule(member.module)
            side = outs if member.side == "out" else ins
            size = channels(module, member.side)
            mask = side.setdefault(member.module, np.ones(size, bool))
            mask[list(member.channel)] = stay[list(member.root)]
    for name, mask in outs.items():
        if is_depthwise(net.get_submodule(name)):
            ins[name] = mask
    return outs, ins


def channels(module: nn.Module, side: str) -> int:
    """Number of output or input channels of a layer."""
    match module:
        case nn.Conv2d():
            return module.out_channels if side == "out" else module.in_channels
        case nn.Linear():
            return module.out_features if side == "out" else module.in_features
        case nn.BatchNorm2d():
            return module.num_features
        case nn.PReLU():
            return module.num_parameters
        case _:
            raise NetworkError(f"a {type(module).__name__} has no channels that can be pruned")
