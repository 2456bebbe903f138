"""The predictor of a torch module."""

from __future__ import annotations

import copy
from itertools import chain

import torch
from torch import nn

from edgec.core.outputs import tensors_of
from edgec.core.predictor import Predictor
from edgec.core.session import Array
from edgec.tasks.protocol import Describing


def torch_predictor(
    net: nn.Module, task: Describing, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Predictor:
    """The predictor of a torch module, in eval mode, on a device, computing in `dtype`.

    `net` stays as it is: where it is in training, on another device or of another type, a copy runs.
    """
    contract = task.contract(net)
    ready = _ready(net, torch.device(device), dtype)
    runner = net if ready else copy.deepcopy(net).to(device, dtype).eval()

    @torch.inference_mode()
    def run(images: Array) -> list[Array]:
        outputs = runner(torch.as_tensor(images).to(device, dtype))
        return [output.float().cpu().numpy() for output in tensors_of(outputs)]

    return Predictor(run, contract)


def _ready(net: nn.Module, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a module runs as asked without a change."""
    tensors = chain(net.parameters(), net.buffers())
    placed = all(
        t.device.type == device.type and (t.dtype == dtype or not t.is_floating_point()) for t in tensors
    )
    return placed and not any(module.training for module in net.modules())
