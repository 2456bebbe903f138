"""Where distillation compares a student with its teacher when the recipe names no modules."""

from __future__ import annotations

from torch import Tensor, nn

from edgec.pruning.network_parts import group_name, is_block, part_of
from edgec.pruning.scale_groups import scale_of
from edgec.pruning.trace import executed, makes_images, output_layers


def automatic_taps(net: nn.Module, example: Tensor) -> dict[str, str]:
    """Where attention is compared: the last block of every scale group, by group.

    The block is the convolution's parent when that normalizes or activates its output. In a network that makes
    images: the outputs of the blocks that stand in a list, or, without a list, of all parts that are followed by another.
    """
    layers = executed(net, example)
    if makes_images(net, example, layers):
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
