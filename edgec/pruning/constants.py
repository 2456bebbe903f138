"""What removed channels still said: their constant output goes into the next layer; then batch norms are measured again.

A channel whose batch-norm scale is zero puts out a constant, act(bias), that the next convolution has come to
rely on (the reference pruning code of arXiv 2306.01526 folds it too). Here the constants are measured on
images, so they pass shortcuts, concatenation, pooling and upsampling without special cases.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from edgec.core.norms import norms_behind
from edgec.core.observe import observing
from edgec.pruning.channels import is_depthwise


def mute(net: nn.Module, outs: Mapping[str, np.ndarray]) -> nn.Module:
    """A copy of the network in which the removed channels' batch-norm scales are zero and their biases stay."""
    muted = copy.deepcopy(net).eval()
    with torch.no_grad():
        for name, mask in outs.items():
            module = muted.get_submodule(name)
            if isinstance(module, nn.BatchNorm2d) and module.affine:
                module.weight[torch.as_tensor(~mask)] = 0
    return muted


def constants(
    net: nn.Module, ins: Mapping[str, np.ndarray], images: np.ndarray, batch: int = 8
) -> dict[str, Tensor]:
    """Mean of the removed input channels of each consumer, over images and positions: {layer: [removed]}."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    removed = {
        name: torch.as_tensor(np.flatnonzero(~mask))
        for name, mask in ins.items()
        if not mask.all() and not is_depthwise(net.get_submodule(name))
    }

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, gone = inputs[0], removed[name]
        picked = x[:, gone] if x.ndim == 4 else x[..., gone].movedim(-1, 1)
        flat = picked.double().movedim(1, 0).reshape(len(gone), -1)
        sums[name] = sums.get(name, torch.zeros(len(gone), dtype=torch.float64)) + flat.sum(1)
        counts[name] = counts.get(name, 0) + flat.shape[1]

    with torch.no_grad(), observing(net, removed, note):
        for start in range(0, len(images), batch):
            net(torch.as_tensor(images[start : start + batch]))
    return {name: (sums[name] / counts[name]).float() for name in sums}


def fold(
    net: nn.Module, outs: Mapping[str, np.ndarray], ins: Mapping[str, np.ndarray], images: np.ndarray
) -> dict[str, Tensor]:
    """Move the constant contribution of removed channels into what follows, in place.

    It goes into the consumer's bias, or is taken from the running mean of the batch norm behind it; for the rest,
    new biases [out] are returned by layer name. Exact for 1x1 kernels; for larger ones exact away from the border.
    """
    means = constants(mute(net, outs), ins, images)
    norms = norms_behind(net, torch.as_tensor(images[:1]))
    new: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, mean in means.items():
            module = net.get_submodule(name)
            assert isinstance(module, nn.Conv2d | nn.Linear)
            gone = torch.as_tensor(np.flatnonzero(~ins[name]))
            weight = module.weight[:, gone]
            delta = (weight.sum((2, 3)) if weight.ndim == 4 else weight) @ mean
            if module.bias is not None:
                module.bias.add_(delta)
            elif name in norms:
                norm = net.get_submodule(norms[name])
                assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
                norm.running_mean -= delta
            else:
                new[name] = delta
    return new


def recalibrate(net: nn.Module, images: np.ndarray, batch: int = 16) -> None:
    """Measure the statistics of all batch norms again: the plain average over batches of images, in place."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
        norm.train()
    with torch.no_grad():
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            if len(part) > 1 or start == 0:
                net(torch.as_tensor(part))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    net.eval()
