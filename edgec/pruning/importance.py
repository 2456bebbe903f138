"""How much a channel matters: the mean |scale| of its batch norms (network slimming, arXiv 1708.06519)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from edgec.pruning.groups import Coupling


def importance(net: nn.Module, couplings: Sequence[Coupling]) -> dict[str, np.ndarray]:
    """Importance [size] of the channels of each coupling group.

    Where a group has no batch norm, the L2 norm of its filters stands in, divided by its mean so that it is
    comparable at least within the group.
    """
    found: dict[str, np.ndarray] = {}
    for coupling in couplings:
        total, count = np.zeros(coupling.size), np.zeros(coupling.size)
        outs = [(m, net.get_submodule(m.module)) for m in coupling.outs()]
        norms = [(m, n) for m, n in outs if isinstance(n, nn.BatchNorm2d) and n.affine]
        for member, module in norms or [(m, n) for m, n in outs if isinstance(n, nn.Conv2d | nn.Linear)]:
            values = module.weight.detach().abs().cpu().numpy()
            if not norms:
                values = np.sqrt(np.square(values.reshape(len(values), -1)).sum(1))
                values = values / max(float(values.mean()), 1e-12)
            np.add.at(total, list(member.root), values[list(member.channel)])
            np.add.at(count, list(member.root), 1)
        found[coupling.name] = total / np.maximum(count, 1)
    return found
