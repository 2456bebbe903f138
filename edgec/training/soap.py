"""SOAP (Vyas et al. 2024, arXiv 2409.11321): Adam in the directions in which the gradients of a layer vary.

Weights [o, i, kh, kw] count as a matrix of o rows. Running means of G G' and G' G give the directions (Shampoo's
preconditioners); Adam's second moments are kept along them. For networks of some hundred channels that costs little beside
a batch of images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from edgec.core.typed_torch import eigenvectors, orthonormal

LARGEST = 1024  # sides of a matrix beyond it keep their own directions: an eigenbasis would cost more than it brings
EVERY = 10  # steps between two looks at the directions
EPS = 1e-8


class Soap(torch.optim.Optimizer):
    """`betas`: decay of the first moments, and of the second moments and directions. Weight decay is decoupled.

    The first step only looks at the gradients: there are no directions before it.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 3e-3, betas: tuple[float, float] = (0.95, 0.95), weight_decay: float = 0.0
    ) -> None:  # fmt: skip
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        slots, (keep, slow) = self.state[parameter], group["betas"]
        matrix = grad.float().reshape(len(grad), -1) if grad.ndim > 1 else grad.float().reshape(1, -1)
        if not slots:
            slots["step"] = torch.zeros(())
            slots["mean"], slots["square"] = torch.zeros_like(matrix), torch.zeros_like(matrix)
            for side, rows in (("left", matrix), ("right", matrix.T)):
                if grad.ndim > 1 and len(rows) <= LARGEST:
                    slots[f"{side}_moment"] = rows @ rows.T
                    slots[f"{side}_basis"] = eigenvectors(slots[f"{side}_moment"]).contiguous()
            return
        slots["step"] += 1
        step = int(slots["step"])
        slots["mean"].lerp_(matrix, 1 - keep)
        slots["square"].lerp_(_rotate(matrix, slots).square(), 1 - slow)
        size = (slots["square"] / (1 - slow**step)).sqrt() + EPS
        update = _rotate(_rotate(slots["mean"], slots) / (1 - keep**step) / size, slots, back=True)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update.reshape(parameter.shape).to(parameter.dtype), alpha=-group["lr"])
        for side, rows in (("left", matrix), ("right", matrix.T)):
            if f"{side}_moment" in slots:
                slots[f"{side}_moment"].lerp_(rows @ rows.T, 1 - slow)
                if step % EVERY == 0:
                    _refresh(slots, side)


def _rotate(matrix: Tensor, slots: dict[str, Tensor], back: bool = False) -> Tensor:
    """The matrix in its directions, or back from them."""
    left, right = slots.get("left_basis"), slots.get("right_basis")
    if left is not None:
        matrix = (left if back else left.T) @ matrix
    if right is not None:
        matrix = matrix @ (right.T if back else right)
    return matrix


def _refresh(slots: dict[str, Tensor], side: str) -> None:
    """One step of power iteration towards the eigenvectors, the largest first; second moments go with their directions."""
    moment, basis = slots[f"{side}_moment"], slots[f"{side}_basis"]
    order = torch.einsum("ij,ij->j", basis, moment @ basis).argsort(descending=True)
    slots["square"] = slots["square"][order] if side == "left" else slots["square"][:, order].contiguous()
    slots[f"{side}_basis"] = orthonormal(moment @ basis[:, order]).contiguous()
