"""The train stage: the task's own loss, from scratch or as fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from edgec.core.network import Network
from edgec.core.results.training import TrainResult
from edgec.env import Env
from edgec.recipe import Train
from edgec.training.fit import fit
from edgec.training.schedules import Position


def train(config: Train, network: Network, env: Env) -> tuple[Network, TrainResult]:
    """Train a network with the task's loss. The result has the curves and the final accuracy on the validation split."""
    net = network.build()

    def loss(model: nn.Module, batch: Any, at: Position) -> Mapping[str, Tensor]:
        return env.task.losses(model(batch.images), batch, net)

    result = fit(net, loss, config, env)
    return network.with_weights(net), TrainResult.of(result)
