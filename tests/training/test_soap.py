"""SOAP: Adam where there are no directions, faster where the directions are not the axes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgec.training import soap
from edgec.training.soap import Soap


def test_a_vector_moves_as_with_adam() -> None:
    """Biases have no directions: after the first step, which only looks, the steps are Adam's."""
    ours, theirs = (nn.Parameter(torch.tensor([1.0, -2.0, 3.0])) for _ in range(2))
    mine, adam = (
        Soap([ours], lr=0.1, betas=(0.9, 0.95)),
        torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.95)),
    )
    draw = torch.Generator().manual_seed(0)
    ours.grad = torch.ones(3)
    mine.step()
    assert ours.tolist() == [1.0, -2.0, 3.0]
    for _ in range(5):
        ours.grad = torch.randn(3, generator=draw)
        theirs.grad = ours.grad.clone()
        mine.step()
        adam.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_the_bases_become_eigenvectors() -> None:
    """With gradients of one covariance, power iteration finds its eigenvectors, the largest first."""
    draw = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=draw))[0]
    sizes = torch.tensor([9.0, 6.0, 4.0, 2.0, 1.0, 0.5])
    weight = nn.Parameter(torch.zeros(6, 40))
    optimizer = Soap([weight], lr=0.0)
    for _ in range(2000):
        weight.grad = turn @ (sizes[:, None] * torch.randn(6, 40, generator=draw))
        optimizer.step()
    found = optimizer.state[weight]["left_basis"]
    assert torch.allclose(found.T @ found, torch.eye(6), atol=1e-5)
    along = (found.T @ turn).abs()
    assert bool((along.diagonal() > 0.9).all())


def descended(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer], steps: int = 150) -> float:
    """The loss of a least-squares layer whose inputs and outputs are strongly correlated."""
    draw = torch.Generator().manual_seed(0)

    def turned(n: int) -> Tensor:
        turn = torch.linalg.qr(torch.randn(n, n, generator=draw))[0]
        return turn * torch.logspace(0, -1.5, n)

    taken, given, target = turned(24), turned(16), torch.randn(16, 24, generator=draw)
    weight = nn.Parameter(torch.zeros(16, 24))
    optimizer = make([weight])
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: 0.5 * (1 + math.cos(math.pi * k / steps))
    )
    loss = torch.zeros(())
    for _ in range(steps):
        x = torch.randn(32, 24, generator=draw) @ taken.T
        loss = ((x @ (weight - target).T) @ given).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return float(loss.detach())


def test_goes_further_than_adam_where_directions_are_not_the_axes() -> None:
    rates = (0.01, 0.03, 0.1)
    ours = min(descended(lambda p, lr=lr: Soap(p, lr=lr)) for lr in rates)
    adams = min(descended(lambda p, lr=lr: torch.optim.Adam(p, lr=lr)) for lr in rates)
    assert ours < 0.5 * adams


def test_kernels_are_matrices_and_keep_their_layout() -> None:
    conv = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    before = conv.weight.detach().clone()
    optimizer = Soap(conv.parameters(), lr=0.01)
    for _ in range(soap.EVERY + 2):
        optimizer.zero_grad()
        conv(torch.randn(2, 4, 8, 8)).square().mean().backward()
        optimizer.step()
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert conv.weight.shape == before.shape
    slots = optimizer.state[conv.weight]
    assert slots["left_basis"].shape == (6, 6)
    assert slots["right_basis"].shape == (36, 36)
    assert bool((conv.weight != before).all())


def test_a_side_too_long_keeps_its_own_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soap, "LARGEST", 10)
    weight = nn.Parameter(torch.zeros(4, 12))
    optimizer = Soap([weight], lr=0.1)
    for _ in range(3):
        weight.grad = torch.randn(4, 12, generator=torch.Generator().manual_seed(1))
        optimizer.step()
    assert "left_basis" in optimizer.state[weight]
    assert "right_basis" not in optimizer.state[weight]
    assert bool(weight.ne(0).all())


def test_weight_decay_is_apart_from_the_gradient() -> None:
    weight = nn.Parameter(torch.ones(2, 3))
    optimizer = Soap([weight], lr=0.1, weight_decay=0.5)
    for _ in range(3):  # the first looks
        weight.grad = torch.zeros(2, 3)
        optimizer.step()
    assert torch.allclose(weight, torch.full((2, 3), 0.95**2))
