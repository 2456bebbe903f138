"""The parts that a network is written in: its blocks, and the modules before and after them."""

from __future__ import annotations

import re

from torch import nn


def part_of(net: nn.Module, name: str) -> str:
    """The part of the network that a module belongs to, by its name: the outermost module around it that is no list.

    A list is a ModuleList, or a Sequential (the network itself, too) in which some member has several convolutions:
    a chain of blocks, not one of layers.
    """
    path = name.split(".")
    for depth in range(1, len(path)):
        part = ".".join(path[:depth])
        if not _is_list(net.get_submodule(part)):
            return part
    return name


def _is_list(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList) or (
        isinstance(module, nn.Sequential) and any(is_block(member) for member in module)
    )


def is_block(module: nn.Module) -> bool:
    """Whether it has several convolutions."""
    return sum(isinstance(m, nn.Conv2d) for m in module.modules()) > 1


def group_name(part: str) -> str:
    """A part's name as recipes write names: `blocks.0` -> `blocks_0`, `LR_conv` -> `lr_conv`."""
    name = re.sub(r"[^a-z0-9_-]", "_", part.lower())
    return name if name[0].isalpha() else f"part_{name}"
