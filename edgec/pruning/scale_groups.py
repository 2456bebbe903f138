"""Scale groups: sets of dependency groups that share one threshold (Chu et al., arXiv 2306.01526).

They cut the network by the scale of its feature maps. A network that makes images has no such scales (IMDN stays at one
resolution): there each part of the network, such as a block of a list of blocks, is a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn

from edgec.core.patterns import check_patterns, matches
from edgec.core.typed_torch import modules_of
from edgec.pruning.dependency_groups import DependencyGroup
from edgec.pruning.network_parts import group_name, part_of
from edgec.pruning.trace import executed, makes_images


def scale_of(net: nn.Module, example: Tensor) -> dict[str, str]:
    """The scale group of every convolution: down to stride 8 together, then one for each deeper stride of the
    backbone, then the top-down path, then the bottom-up path.

    For YOLOv4 these are the cuts of arXiv 2306.01526. In a network that makes images and stays above stride 8, the
    groups are its parts (`part_of`), named like `blocks_0`.
    """
    layers = executed(net, example)
    if makes_images(net, example, layers):
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


def scale_groups(
    net: nn.Module,
    example: Tensor,
    dependent: Sequence[DependencyGroup],
    named: Literal["auto"] | Mapping[str, Sequence[str]],
    place: str = "stages.prune",
) -> dict[str, str]:
    """The scale group of each dependency group, by its first convolution; `named` gives patterns of module names.

    Raises StageError for a pattern that matches nothing, which names `place` of the recipe. Dependency groups that no
    pattern matches form "other".
    """
    if named == "auto":
        scales = scale_of(net, example)
        return {c.name: scales[c.name] for c in dependent}
    everything = [name for name, m in modules_of(net).items() if isinstance(m, nn.Conv2d)]
    check_patterns(
        {f"{place}.groups.{group}": each for group, each in named.items()}, everything, "convolution"
    )
    return {
        c.name: next((g for g, patterns in named.items() if matches(c.name, patterns)), "other")
        for c in dependent
    }
