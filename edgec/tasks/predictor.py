"""The predictor of a torch module."""

from __future__ import annotations

import torch
from torch import nn

from edgec.core.outputs import tensors_of
from edgec.core.predictor import Predictor
from edgec.core.session import Array
from edgec.tasks.protocol import Task


def torch_predictor(
    net: nn.Module, task: Task, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Predictor:
    """The predictor of a torch module, in eval mode, on a device, computing in `dtype`."""
    contract = task.contract(net)
    net = net.to(device, dtype).eval()

    @torch.inference_mode()
    def run(images: Array) -> list[Array]:
        outputs = net(torch.from_numpy(images).to(device, dtype))
        return [output.float().cpu().numpy() for output in tensors_of(outputs)]

    return Predictor(run, contract)
