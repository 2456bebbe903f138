"""Weights into modules: strictly, with every tensor named that does not fit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgec.core.errors import NetworkError


def load_into(module: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Load weights strictly. Raises NetworkError that names every tensor that does not fit."""
    wanted = module.state_dict()
    problems = [f"{n}: missing" for n in wanted if n not in weights]
    problems += [f"{n}: not part of the network" for n in weights if n not in wanted]
    problems += [
        f"{n}: shape {tuple(weights[n].shape)}, the network has {tuple(t.shape)}"
        for n, t in wanted.items()
        if n in weights and weights[n].shape != t.shape
    ]
    problems += [
        f"{n}: holds NaN or infinity" for n, t in weights.items() if not bool(torch.isfinite(t).all())
    ]
    if problems:
        shown = "\n  ".join(problems[:12]) + (
            f"\n  and {len(problems) - 12} more" if len(problems) > 12 else ""
        )
        raise NetworkError(f"the weights do not fit {what}:\n  {shown}")
    module.load_state_dict(dict(weights))
