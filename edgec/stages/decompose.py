"""The decompose stage: convolutions become pairs of thinner ones (spatial SVD, arXiv 1405.3866)."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from edgec.env import Env, torch_predictor
from edgec.errors import StageError
from edgec.events import Progress
from edgec.network import Network, Surgery, replay
from edgec.pruning.cost import Cost, cost_of
from edgec.pruning.spatial_svd import decomposable, factors, ranks_at, spectra
from edgec.recipe import Decompose

SHARES = [1 - 10 ** (-5 * step / 1000) for step in range(1, 1001)]  # of the energy: 0.011 to 0.99999


def decompose(config: Decompose, network: Network, env: Env) -> tuple[Network, dict[str, Any]]:
    """Cut convolutions to the ranks that keep the same share of the energy in each, as large as the cost allows.

    Metrics: cost before and after, the share, rank and kept energy of each layer, accuracy.
    Raises StageError where nothing can be decomposed, or the cost cannot be reached.
    """
    net = network.build()
    convs = decomposable(net, config.ignore)
    if not convs:
        raise StageError(
            f"stages.{env.stage}: no convolution can be decomposed; check ignore: kernels of one row or column, "
            "grouped ones and padding other than zeros stay as they are"
        )

    def tell(done: int, total: int) -> None:
        env.events.emit(Progress(f"{env.stage}: looking at what layers take", done, total))

    found = spectra(net, convs, env.task.images("train", config.images), env.seed, tell)
    example = env.task.example()
    before = cost_of(net, example)

    def surgery_at(share: float) -> Surgery:
        return Surgery("spatial_svd", ranks_at(share, convs, found, config.round_to))

    def cost(share: float) -> Cost:
        return cost_of(network.with_surgery(surgery_at(share)).blank(), example)

    limit = config.keep_macs * before.macs
    above = bisect_left(SHARES, True, key=lambda share: cost(share).macs > limit)
    if above == 0:
        least = cost(SHARES[0]).macs / before.macs
        raise StageError(
            f"stages.{env.stage}: keep_macs {config.keep_macs:g} cannot be reached, {least:.3f} is the least; ask for less, "
            "shorten ignore, or prune channels too"
        )
    share = SHARES[above - 1]
    surgery = surgery_at(share)
    replay(net, surgery)
    with torch.no_grad():
        for name, rank in surgery.changes.items():
            column, row = net.get_submodule(f"{name}.0"), net.get_submodule(f"{name}.1")
            assert isinstance(column, nn.Conv2d) and isinstance(row, nn.Conv2d)
            conv = convs[name]
            for made, weight in zip((column, row), factors(conv, found[name], rank), strict=True):
                made.weight.copy_(weight)
            if row.bias is not None and conv.bias is not None:
                row.bias.copy_(conv.bias)
    layers = [
        {"name": name, "rank": rank, "of": len(found[name].energy), "energy": found[name].kept(rank)}
        for name, rank in surgery.changes.items()
    ]
    metrics = {
        "share": share,
        "layers": layers,
        "before": asdict(before),
        "after": asdict(cost_of(net, example)),
        "final": env.task.evaluate(torch_predictor(net, env.task, env.device), "val"),
    }
    return network.with_surgery(surgery, net), metrics
