# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Calls of torch and safetensors whose types the libraries leave open, typed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from torch import Tensor, nn


def modules_of(net: nn.Module) -> dict[str, nn.Module]:
    """All modules by name, each once; the network itself is named ""."""
    return dict(net.named_modules())


def floats(tensor: Tensor) -> list[float]:
    """The numbers of a tensor [n]."""
    return tensor.tolist()


def norm(tensor: Tensor, dim: int | None = None) -> Tensor:
    """The L2 norm over all elements, or along one axis."""
    return tensor.norm(dim=dim)


def norms(tensors: list[Tensor]) -> list[Tensor]:
    """The L2 norm of each tensor, in one call."""
    return list(torch.ops.aten._foreach_norm(tensors))


def eigenvectors(symmetric: Tensor) -> Tensor:
    """In columns, by rising eigenvalue, [n, n]."""
    return torch.linalg.eigh(symmetric)[1]


def orthonormal(matrix: Tensor) -> Tensor:
    """The Q of the QR decomposition."""
    return torch.linalg.qr(matrix)[0]


def cholesky(matrix: Tensor) -> Tensor:
    """The lower triangular root of a positive definite matrix [n, n]."""
    return torch.linalg.cholesky(matrix)


def left_singular(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The left singular vectors [rows, k] and the singular values [k], the largest first."""
    left, sizes, _ = torch.linalg.svd(matrix, full_matrices=False)
    return left, sizes


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """x in matrix @ x = right."""
    return torch.linalg.solve(matrix, right)


def move(net: nn.Module, device: str, layout: torch.memory_format) -> nn.Module:
    """Move a network, in place, to a device, its images in a layout such as torch.channels_last."""
    return cast(Any, net).to(device, memory_format=layout)


@contextmanager
def random_state(seed: int | None = None, device: str | None = None) -> Generator[None]:
    """Leave torch's random numbers behind as they were, and draw by `seed` inside the block where it is given.

    `device` "cuda" or "cpu": only the current GPU's numbers, or no GPU's, are put back; None: those of all GPUs.
    """
    gpus = None if device is None else [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(gpus):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, by name. Raises SafetensorError or OSError."""
    return safetensors.torch.load_file(path)
