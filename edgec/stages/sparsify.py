"""The sparsify stage: training with a penalty that moves unimportant channels towards zero, so that pruning can remove them.

Nothing is added to the network: what is penalized are its own batch-norm scales or filters, so nothing has to be folded
or taken out before the export.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from edgec.core.errors import StageError
from edgec.core.network import Network
from edgec.core.patterns import check_patterns
from edgec.core.results.training import NEAR_ZERO, ChannelSizes, SparsifyResult
from edgec.core.typed_torch import modules_of
from edgec.env import Env
from edgec.pruning.dependency_groups import dependency_groups
from edgec.pruning.filters import FilterNorms
from edgec.recipe import Sparsify
from edgec.training.fit import fit
from edgec.training.schedules import Position
from edgec.training.sparsity import NormScales, Signal, SparsityPenalty, prunable_scales

BINS = 40


def sparsify(config: Sparsify, network: Network, env: Env) -> tuple[Network, SparsifyResult]:
    """Sparse training (arXiv 2306.01526). The result has the channels' sizes before and after too."""
    net = network.build()
    kind = signal_kind(config, net)
    signal = _signal(kind, config, net, env)
    before = signal.sizes().cpu().numpy()

    def loss(model: nn.Module, batch: Any, at: Position) -> Mapping[str, Tensor]:
        return env.task.losses(model(batch.images), batch, net)

    result = fit(net, loss, config, env, after_backward=SparsityPenalty(config, signal))
    after = signal.sizes().cpu().numpy()
    edges = np.linspace(0, max(float(before.max()), float(after.max()), 1e-6), BINS + 1)
    sizes = ChannelSizes(
        signal=kind,
        edges=tuple(edges.tolist()),
        before=tuple(np.histogram(before, edges)[0].tolist()),
        after=tuple(np.histogram(after, edges)[0].tolist()),
        near_zero_before=float((before < NEAR_ZERO).mean()),
        near_zero_after=float((after < NEAR_ZERO).mean()),
    )
    return network.with_weights(net), SparsifyResult.of(result, gamma=sizes)


def signal_kind(config: Sparsify, net: nn.Module) -> Literal["norm_scales", "filter_norms"]:
    """What is penalized: as the recipe says; by itself the batch-norm scales, where the network has any."""
    if config.signal != "auto":
        return config.signal
    normed = any(isinstance(m, nn.BatchNorm2d) and m.affine for m in net.modules())
    return "norm_scales" if normed else "filter_norms"


def _signal(
    kind: Literal["norm_scales", "filter_norms"], config: Sparsify, net: nn.Module, env: Env
) -> Signal:
    check_patterns({f"stages.{env.stage}.ignore": config.ignore}, modules_of(net))
    if kind == "norm_scales":
        return NormScales(list(prunable_scales(net, config.ignore).values()))
    groups = dependency_groups(net, env.task.example(), config.ignore)
    if not groups:
        raise StageError(f"stages.{env.stage}: the network has no channels that may be pruned; check ignore")
    return FilterNorms(net, groups)
