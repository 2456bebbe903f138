"""How large a channel is where it has no batch norm: by the norm of the filters that make it (group lasso).

A channel's filters are those of all layers that make it, as the dependency group says (the channels of a residual trunk
are made by every block). Its size is the root mean square, over these layers, of the L2 norm of filter and bias
divided by the mean norm in the layer. So sizes are about 1, as batch-norm scales are, whatever a layer's fan-in and
however its gain was moved into its neighbours: one rate and one percentile serve the whole network.

How strong a rate is depends on the loss: the filters of the official IMDN x4 have gradients of norm 1e-4 (L1, images in
0..1, 16 patches) and norms of 2.4, so that a rate of 1e-3 pulls thirty times as hard as the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgec.pruning.dependency_groups import DependencyGroup


@dataclass(frozen=True)
class GroupFilters:
    """The filters of a layer that compute channels of a dependency group: row[i] of its weight computes channel root[i]."""

    layer: nn.Conv2d | nn.Linear
    row: Tensor
    root: Tensor
    mean: float  # norm of a filter of the layer, at the start


class Filters:
    """The filters of one dependency group.

    Left out are the layers of attention's gates, where the group has others: a gate without filters is half open.
    """

    def __init__(self, net: nn.Module, group: DependencyGroup) -> None:
        self.size = group.size
        found = [(m, net.get_submodule(m.module)) for m in group.outs()]
        made = [(m, layer) for m, layer in found if isinstance(layer, nn.Conv2d | nn.Linear)]
        makers = [(m, layer) for m, layer in made if not m.pooled] or made
        self.makers = [
            GroupFilters(
                layer, torch.tensor(m.channel), torch.tensor(m.root), float(norms(layer).mean()) or 1.0
            )
            for m, layer in makers
        ]

    @torch.no_grad()
    def sizes(self) -> Tensor:
        """[size], on the network's device."""
        device = self.makers[0].layer.weight.device
        total, count = torch.zeros(2, self.size, device=device)
        for maker in self.makers:
            root = maker.root.to(device)
            relative = norms(maker.layer)[maker.row.to(device)] / maker.mean
            total.index_add_(0, root, relative.square())
            count.index_add_(0, root, torch.ones_like(relative))
        return (total / count.clamp(min=1)).sqrt()

    @torch.no_grad()
    def penalize(self, rates: Tensor) -> None:
        """Add rate * filter / size to the gradients; `rates` [size].

        Plain gradient descent then shrinks the size of a channel by lr * rate per step, as it would a batch norm's scale.
        """
        factor = rates / self.sizes().clamp(min=1e-12)
        for maker in self.makers:
            row = maker.row.to(factor.device)
            share = factor[maker.root.to(factor.device)]
            for parameter in (maker.layer.weight, maker.layer.bias):
                if parameter is not None and parameter.grad is not None:
                    push = parameter[row] * share.reshape(-1, *[1] * (parameter.ndim - 1))
                    parameter.grad.index_add_(0, row, push.to(parameter.grad.dtype))


class FilterNorms:
    """The sizes of all prunable channels as a signal for sparse training, relative to the network as it is now."""

    def __init__(self, net: nn.Module, groups: Sequence[DependencyGroup]) -> None:
        self.groups = [Filters(net, group) for group in groups]

    def sizes(self) -> Tensor:
        """All sizes, pooled, [k]."""
        return torch.cat([group.sizes() for group in self.groups])

    def penalize(self, rates: Tensor) -> None:
        """Penalize every channel; `rates` [k]."""
        for group, part in zip(self.groups, torch.split(rates, [g.size for g in self.groups]), strict=True):
            group.penalize(part)


def norms(layer: nn.Conv2d | nn.Linear) -> Tensor:
    """The L2 norm of each filter with its bias, [out]."""
    squares = layer.weight.detach().flatten(1).square().sum(1)
    return (squares if layer.bias is None else squares + layer.bias.detach().square()).sqrt()
