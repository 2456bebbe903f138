# pyright: reportUnknownMemberType=false
"""Several processes training one network, as torchrun starts them."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist

from edgec.core.typed_torch import floats
from edgec.env import ProcessGroup

TIMEOUT = timedelta(hours=3)  # rank 0 prunes, exports and profiles alone while the others wait


def init_from_environment(device: str) -> ProcessGroup:
    """Join the process group that torchrun describes in RANK, WORLD_SIZE and LOCAL_RANK."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if not dist.is_initialized():
        if device == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=TIMEOUT)
    return ProcessGroup(rank, size)


def barrier(process_group: ProcessGroup) -> None:
    """Wait for the other processes, if there are any."""
    if process_group.size > 1:
        dist.barrier()


def agreed(number: int, process_group: ProcessGroup) -> int:
    """The number of rank 0, which all processes go by."""
    if process_group.size == 1:
        return number
    tensor = torch.tensor(number, dtype=torch.int64)
    tensor = tensor.cuda() if dist.get_backend() == "nccl" else tensor
    dist.broadcast(tensor, 0)
    return int(tensor.item())


def average(values: list[float], process_group: ProcessGroup) -> list[float]:
    """Mean over the processes, element by element."""
    if process_group.size == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor.cuda() if dist.get_backend() == "nccl" else tensor)
    return floats(tensor / process_group.size)


def average_gradients(module: torch.nn.Module, process_group: ProcessGroup) -> None:
    """Mean over the processes of the gradients of a module that is not wrapped for several processes, in place."""
    if process_group.size == 1:
        return
    for parameter in module.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad.div_(process_group.size)
