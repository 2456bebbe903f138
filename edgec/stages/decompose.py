"""The decompose stage: convolutions become pairs of thinner ones (spatial SVD, arXiv 1405.3866)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgec.core.errors import StageError
from edgec.core.network import Network
from edgec.core.patterns import check_patterns
from edgec.core.results.pruning import DecomposeResult, LayerDecomposed
from edgec.core.results.stage import Cost
from edgec.core.surgery import SpatialSvd
from edgec.core.typed_torch import modules_of
from edgec.env import Env
from edgec.pruning.cost import cost_of, shapes_of, total
from edgec.pruning.spatial_svd import choose_ranks, decomposable, distortions, factors, options, spectra
from edgec.recipe import Decompose
from edgec.tasks.predictor import torch_predictor
from edgec.tasks.protocol import Building

MEASURED = 8  # images on which each layer is tried at each rank


def decompose(config: Decompose, network: Network, env: Env) -> tuple[Network, DecomposeResult]:
    """Decompose convolutions with the ranks that were measured to change the outputs least at the cost asked for.

    The result has the cost before and after, the rank, kept energy and loss of each layer, and the accuracy.
    Raises StageError where nothing can be decomposed, or the cost cannot be reached.
    """
    net, place = network.build(), f"stages.{env.stage}"
    convs = _cuttable(config, net, place)
    images = env.task.images("train", config.images)
    measuring_inputs = env.events.progress("measuring the inputs of layers", env.stage)
    spectrum_of = spectra(net, convs, images, env.seed, measuring_inputs)
    measuring_ranks = env.events.progress("measuring ranks", env.stage)
    lost = distortions(net, convs, spectrum_of, images[:MEASURED], config.round_to, measuring_ranks)
    example = env.task.example()
    choices = _choices(network, net, lost, example, config.round_to)
    check_reach(config, choices, place)
    spare = int(config.keep_macs * choices.before.macs) - choices.least
    surgery = SpatialSvd(choose_ranks(choices.costs, choices.whole, lost, spare))
    surgery.apply(net)
    with torch.no_grad():
        for name, rank in surgery.changes.items():
            column, row = net.get_submodule(f"{name}.0"), net.get_submodule(f"{name}.1")
            assert isinstance(column, nn.Conv2d) and isinstance(row, nn.Conv2d)
            conv = convs[name]
            for made, weight in zip((column, row), factors(conv, spectrum_of[name], rank), strict=True):
                made.weight.copy_(weight)
            if row.bias is not None and conv.bias is not None:
                row.bias.copy_(conv.bias)
    layers = tuple(
        LayerDecomposed(
            name=name,
            rank=rank,
            of=len(spectrum_of[name].energy),
            energy=spectrum_of[name].kept(rank),
            lost=lost[name][rank],
        )
        for name, rank in surgery.changes.items()
    )
    result = DecomposeResult(
        layers=layers,
        before=choices.before,
        after=cost_of(net, example),
        final=env.task.evaluate(torch_predictor(net, env.task, env.device), "val"),
    )
    return network.with_surgery(surgery, net), result


@dataclass(frozen=True)
class Choices:
    """What decomposing can leave of a network: MACs of each layer as it is, and decomposed at each rank."""

    before: Cost  # of the whole network
    whole: Mapping[str, int]
    costs: Mapping[str, Mapping[int, int]]

    @property
    def least(self) -> int:
        """MACs of the network with every layer decomposed at its lowest rank."""
        return self.before.macs - sum(
            self.whole[name] - min(each.values()) for name, each in self.costs.items()
        )

    @property
    def least_share(self) -> float:
        """The least keep_macs that can be asked for."""
        return self.least / self.before.macs


def choices_of(config: Decompose, network: Network, task: Building, place: str) -> Choices:
    """What decomposing this network now could leave; data is not read.

    Raises StageError where nothing can be decomposed. `place` is the stage in the recipe.
    """
    net = network.build()
    convs = _cuttable(config, net, place)
    ranks = {name: each for name, conv in convs.items() if (each := options(conv, config.round_to))}
    return _choices(network, net, ranks, task.example(), config.round_to)


def plan(config: Decompose, place: str, network: Network, task: Building, shaped: bool) -> Iterator[str]:
    """For --dry-run: the layers that can be decomposed, and the fewest MACs; ranks are chosen by what the data shows.

    Raises StageError for a target that cannot be reached, where the network has its structure already (`shaped`).
    """
    choices = choices_of(config, network, task, place)
    if shaped:
        check_reach(config, choices, place)
    asked, before = config.keep_macs * choices.before.macs, choices.before.macs
    of = "" if shaped else ", as the network is now"
    yield f"{len(choices.costs)} convolutions can be decomposed: {', '.join(choices.costs)}"
    yield (
        f"at most {asked / 1e6:,.1f} of {before / 1e6:,.1f} M MACs are allowed; the least keep_macs is "
        f"{choices.least_share:.3f}{of}"
    )


def check_reach(config: Decompose, choices: Choices, place: str) -> None:
    """Raise StageError where `keep_macs` asks for less than the least."""
    if int(config.keep_macs * choices.before.macs) < choices.least:
        raise StageError(
            f"{place}: keep_macs {config.keep_macs:g} cannot be reached, {choices.least_share:.3f} is the least; "
            "ask for less, shorten ignore, or prune channels too"
        )


def _cuttable(config: Decompose, net: nn.Module, place: str) -> dict[str, nn.Conv2d]:
    """The convolutions that can be decomposed. Raises StageError where there are none, or a pattern matches none."""
    check_patterns({f"{place}.ignore": config.ignore}, modules_of(net))
    convs = decomposable(net, config.ignore)
    if not convs:
        raise StageError(
            f"{place}: no convolution can be decomposed; check ignore: kernels of one row or column, grouped ones and "
            "padding other than zeros stay as they are"
        )
    return convs


def _choices(
    network: Network, net: nn.Module, ranks: Mapping[str, Iterable[int]], example: Tensor, round_to: int
) -> Choices:
    """The MACs of `ranks` of each layer: they grow with the rank in proportion."""

    def macs(module: nn.Module) -> dict[str, int]:
        return {shape.name: total([shape], {}, {}, 1).macs for shape in shapes_of(module, example)}

    cut = network.with_surgery(SpatialSvd(dict.fromkeys(ranks, round_to))).blank()
    uncut, thin = macs(net), macs(cut)
    whole = {name: uncut[name] for name in ranks}
    unit = {name: (thin[f"{name}.0"] + thin[f"{name}.1"]) // round_to for name in ranks}
    costs = {name: {rank: unit[name] * rank for rank in each} for name, each in ranks.items()}
    return Choices(cost_of(net, example), whole, costs)
