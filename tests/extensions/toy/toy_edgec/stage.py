from __future__ import annotations

from collections.abc import Iterator

from edgec.core.network import Network
from edgec.env import Env
from edgec.tasks.predictor import torch_predictor
from edgec.tasks.protocol import Task
from toy_edgec.rows import Nudge, NudgeResult


def nudge(config: Nudge, network: Network, env: Env) -> tuple[Network, NudgeResult]:
    net = network.build()
    biases = [p for name, p in net.named_parameters() if name.endswith("bias")]
    for bias in biases:
        bias.data += config.by
    final = env.task.evaluate(torch_predictor(net, env.task, env.device), "val")
    return network.with_weights(net), NudgeResult(nudged=len(biases), final=final)


def plan(config: Nudge, place: str, network: Network, task: Task, shaped: bool) -> Iterator[str]:
    yield f"every bias grows by {config.by:g}"
