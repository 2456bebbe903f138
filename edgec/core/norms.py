"""Which batch norm stands behind which convolution, and folding it into the convolution."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgec.core.observe import observed_pass
from edgec.core.outputs import tensors_of
from edgec.core.typed_torch import norm


def norms_behind(net: nn.Module, example: Tensor) -> dict[str, str]:
    """The batch norm that directly takes a convolution's (or linear layer's) output, by that layer's name."""
    layer_of: dict[int, str] = {}
    kept: list[Tensor] = []  # alive, so that no other tensor takes its id
    norms: dict[str, str] = {}

    def look(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not isinstance(module, nn.BatchNorm2d):
            kept.append(output)
            layer_of[id(output)] = name
        elif id(inputs[0]) in layer_of:
            norms[layer_of[id(inputs[0])]] = name

    observed_pass(net, example, (nn.Conv2d, nn.Linear, nn.BatchNorm2d), look)
    return norms


def fold_norms(net: nn.Module, example: Tensor) -> nn.Module:
    """A copy of a network in eval mode whose batch norms behind convolutions are part of them; see `folded_norms`."""
    return folded_norms(net, example)[0]


def folded_norms(net: nn.Module, example: Tensor) -> tuple[nn.Module, dict[str, str]]:
    """A copy of a network in eval mode whose batch norms are part of the convolutions before them; which, by convolution.

    Nothing is folded in a network that then computes something else: where more than the norm takes a convolution's
    output, or one convolution stands before two norms.
    """
    whole = copy.deepcopy(net).cpu().eval()
    folded = copy.deepcopy(whole)
    pairs: dict[str, str] = {}
    for conv_name, norm_name in norms_behind(folded, example).items():
        conv, norm = folded.get_submodule(conv_name), folded.get_submodule(norm_name)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            _replace(folded, conv_name, fuse_conv_bn_eval(conv, norm))
            _replace(folded, norm_name, nn.Identity())
            pairs[conv_name] = norm_name
    probe = torch.rand(example.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        same = all(
            _near(a, b) for a, b in zip(tensors_of(whole(probe)), tensors_of(folded(probe)), strict=True)
        )
    return (folded, pairs) if same else (whole, {})


def _near(a: Tensor, b: Tensor) -> bool:
    return bool(norm(a - b) <= 1e-3 * norm(a) + 1e-6)


def _replace(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent) if parent else net, child, module)
