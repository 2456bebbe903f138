"""Layers fitted to the dense network by least squares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from edgec.core.network import Network
from edgec.pruning.dependency_groups import dependency_groups
from edgec.pruning.importance import importance
from edgec.pruning.masks import masks_of
from edgec.pruning.reconstruct import reconstruct
from edgec.pruning.surgery import prune_channels

Make = Callable[..., Network]


def images(count: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3, 64, 64), dtype=np.float32)


def pruned(network: Network) -> tuple[nn.Module, nn.Module, dict, dict]:
    """Dense and pruned module, and the masks."""
    net = network.build()
    groups = dependency_groups(net, torch.zeros(1, 3, 64, 64))
    scores = importance(net, groups)
    kept = {c.name: scores[c.name] > np.median(scores[c.name]) for c in groups}
    outs, ins = masks_of(groups, kept, net)
    return net, prune_channels(network, net, outs, ins).build(), outs, ins


def error(dense: nn.Module, other: nn.Module, x: np.ndarray) -> float:
    with torch.no_grad():
        a, b = dense(torch.from_numpy(x)), other(torch.from_numpy(x))
    a, b = ([y] if isinstance(y, torch.Tensor) else y for y in (a, b))
    return sum(float((p - q).square().mean()) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("kind", ["Plain", "Wide"])
def test_the_pruned_network_comes_nearer_to_the_dense_one_on_new_images(make: Make, kind: str) -> None:
    dense, module, outs, ins = pruned(make(kind))
    before = error(dense, module, images(seed=9))
    told: list[tuple[int, int]] = []
    fitted = reconstruct(dense, module, outs, ins, images(), 0, lambda *done: told.append(done))
    assert error(dense, module, images(seed=9)) < 0.7 * before
    assert told == [(i + 1, len(fitted)) for i in range(len(fitted))]


def test_what_the_kept_channels_can_say_exactly_is_said_exactly() -> None:
    """Half of a layer's channels are copies of the others: nothing is lost without them."""

    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.make = nn.Conv2d(3, 8, 3, padding=1)
            self.act = nn.LeakyReLU(0.1)
            self.take = nn.Conv2d(8, 4, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.take(self.act(self.make(x)))

    torch.manual_seed(0)
    dense, module = Twins().eval(), Twins().eval()
    with torch.no_grad():
        for tensor in dense.make.parameters():
            tensor[4:] = 2 * tensor[:4]
    module.load_state_dict(dense.state_dict())
    for name, tensor in dense.make.named_parameters():
        setattr(module.make, name, nn.Parameter(tensor[:4].clone()))
    module.take.weight = nn.Parameter(dense.take.weight[:, :4].clone())
    module.make.out_channels = module.take.in_channels = 4
    stayed = np.arange(8) < 4
    before = error(dense, module, images(seed=9))
    fitted = reconstruct(dense, module, {"make": stayed}, {"take": stayed}, images(), 0)
    assert fitted == ["take"]
    assert error(dense, module, images(seed=9)) < 1e-4 * before


def test_running_means_follow_where_a_batch_norm_stands_behind() -> None:
    """Without recalibration the norm gives what it gave on average."""
    torch.manual_seed(1)
    dense = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4)
    ).eval()
    module = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)
    ).eval()
    with torch.no_grad():
        for few, all_ in zip(module[0].parameters(), dense[0].parameters(), strict=True):
            few.copy_(all_[:4])
        module.get_parameter("2.weight").copy_(dense.get_parameter("2.weight")[:, :4])
    stayed = np.arange(8) < 4
    on = images()[:, :, :32, :32]  # all positions are drawn
    reconstruct(dense, module, {"0": stayed}, {"2": stayed}, on, 0)
    with torch.no_grad():
        a, b = (net(torch.from_numpy(on)).mean((0, 2, 3)) for net in (dense, module))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_the_same_seed_gives_the_same_weights(make: Make) -> None:
    first, second = [pruned(make("Wide")) for _ in range(2)]
    for dense, module, outs, ins in (first, second):
        reconstruct(dense, module, outs, ins, images(2), 3)
    for a, b in zip(first[1].state_dict().values(), second[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)
