"""The decompose stage: convolutions become pairs of thinner ones (spatial SVD, arXiv 1405.3866)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from edgec.core.errors import StageError
from edgec.core.events import Progress
from edgec.core.network import Network
from edgec.core.patterns import check_patterns
from edgec.core.surgery import SpatialSvd
from edgec.env import Env
from edgec.pruning.cost import cost_of, shapes_of, total
from edgec.pruning.spatial_svd import choose_ranks, decomposable, distortions, factors, spectra
from edgec.recipe import Decompose
from edgec.tasks.predictor import torch_predictor

MEASURED = 8  # images on which each layer is tried at each rank


def decompose(config: Decompose, network: Network, env: Env) -> tuple[Network, dict[str, Any]]:
    """Cut convolutions to the ranks that, by what each was measured to do to the outputs, lose least at the cost asked for.

    Metrics: cost before and after; rank, kept energy and loss of each layer; accuracy.
    Raises StageError where nothing can be decomposed, or the cost cannot be reached.
    """
    net = network.build()
    check_patterns({f"stages.{env.stage}.ignore": config.ignore}, dict(net.named_modules()))
    convs = decomposable(net, config.ignore)
    if not convs:
        raise StageError(
            f"stages.{env.stage}: no convolution can be decomposed; check ignore: kernels of one row or column, "
            "grouped ones and padding other than zeros stay as they are"
        )

    def tell(what: str) -> Callable[[int, int], None]:
        return lambda done, total: env.events.emit(Progress(f"{env.stage}: {what}", done, total))

    images = env.task.images("train", config.images)
    found = spectra(net, convs, images, env.seed, tell("looking at what layers take"))
    lost = distortions(net, convs, found, images[:MEASURED], config.round_to, tell("measuring ranks"))
    example = env.task.example()
    before = cost_of(net, example)
    whole, costs = _macs(network, net, lost, example, config.round_to)
    least = before.macs - sum(whole[name] - min(costs[name].values()) for name in lost)
    spare = int(config.keep_macs * before.macs) - least
    if spare < 0:
        raise StageError(
            f"stages.{env.stage}: keep_macs {config.keep_macs:g} cannot be reached, {least / before.macs:.3f} is the least; "
            "ask for less, shorten ignore, or prune channels too"
        )
    surgery = SpatialSvd(choose_ranks(costs, whole, lost, spare))
    surgery.apply(net)
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
        {
            "name": name,
            "rank": rank,
            "of": len(found[name].energy),
            "energy": found[name].kept(rank),
            "lost": lost[name][rank],
        }
        for name, rank in surgery.changes.items()
    ]
    metrics = {
        "layers": layers,
        "before": asdict(before),
        "after": asdict(cost_of(net, example)),
        "final": env.task.evaluate(torch_predictor(net, env.task, env.device), "val"),
    }
    return network.with_surgery(surgery, net), metrics


def _macs(
    network: Network, net: nn.Module, lost: Mapping[str, Mapping[int, float]], example: Tensor, round_to: int
) -> tuple[dict[str, int], dict[str, dict[int, int]]]:
    """MACs of each layer uncut, and cut to each rank: they grow with it in proportion."""

    def macs(module: nn.Module) -> dict[str, int]:
        return {shape.name: total([shape], {}, {}, 1).macs for shape in shapes_of(module, example)}

    cut = network.with_surgery(SpatialSvd(dict.fromkeys(lost, round_to))).blank()
    uncut, thin = macs(net), macs(cut)
    whole = {name: uncut[name] for name in lost}
    unit = {name: (thin[f"{name}.0"] + thin[f"{name}.1"]) // round_to for name in lost}
    return whole, {name: {rank: unit[name] * rank for rank in each} for name, each in lost.items()}
