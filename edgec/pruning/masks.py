"""Which channels of each layer stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from edgec.pruning.channels import channels_of, is_depthwise
from edgec.pruning.dependency_groups import DependencyGroup

Masks = dict[str, np.ndarray]  # by layer, bool [channels]


def masks_of(
    groups: Sequence[DependencyGroup], kept: Mapping[str, np.ndarray], net: nn.Module
) -> tuple[Masks, Masks]:
    """(outs, ins): for every layer that is touched, which of its output and input channels stay, as bool arrays."""
    outs: dict[str, np.ndarray] = {}
    ins: dict[str, np.ndarray] = {}
    for group in groups:
        stay = kept[group.name]
        for member in group.members:
            module = net.get_submodule(member.module)
            side = outs if member.side == "out" else ins
            size = channels_of(module, member.side)
            mask = side.setdefault(member.module, np.ones(size, bool))
            mask[list(member.channel)] = stay[list(member.root)]
    for name, mask in outs.items():
        if is_depthwise(net.get_submodule(name)):
            ins[name] = mask
    return outs, ins
