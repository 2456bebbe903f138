"""The sparsify stage: training that pulls batch-norm scales towards zero, so that pruning has something to find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgec.env import Env
from edgec.network import Network
from edgec.recipe import Sparsify
from edgec.training.fit import fit
from edgec.training.schedules import Position
from edgec.training.sparsity import Pull, prunable_scales

BINS = 40


def sparsify(config: Sparsify, network: Network, env: Env) -> tuple[Network, dict[str, Any]]:
    """Sparse training (arXiv 2306.01526). Metrics: those of training, and the scales before and after."""
    net = network.build()
    scales = prunable_scales(net, config.ignore)
    before = pooled(scales.values())

    def loss(model: nn.Module, batch: Any, at: Position) -> Mapping[str, Tensor]:
        return env.task.losses(model(batch.images), batch, net)

    result = fit(net, loss, config, env, after_backward=Pull(config, list(scales.values())))
    after = pooled(scales.values())
    edges = np.linspace(0, max(float(before.max()), float(after.max()), 1e-6), BINS + 1)
    metrics = result.to_json() | {
        "gamma": {
            "edges": edges.tolist(),
            "before": np.histogram(before, edges)[0].tolist(),
            "after": np.histogram(after, edges)[0].tolist(),
            "near_zero_before": float((before < 0.01).mean()),
            "near_zero_after": float((after < 0.01).mean()),
        }
    }
    return network.with_weights(net), metrics


def pooled(scales: Sequence[Tensor] | Any) -> np.ndarray[Any, Any]:
    """All |g| in one array."""
    return torch.cat([s.detach().abs().flatten().cpu() for s in scales]).numpy()
