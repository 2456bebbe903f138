"""What the channels that stay can still say of the removed ones: least squares, layer by layer.

Each convolution that lost input channels gets the weights and the bias whose output comes nearest, in mean square over
images, to what it put out before (He et al. 2017, arXiv 1707.06168, section 3.2). Layers are taken in the order in
which they run, on the inputs that the pruned network really gives them, so that later layers mend what earlier ones
could not. The official IMDN x4 without half of its MACs gets from 29.49 to 31.24 dB on Set5 so, before any training.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgec.core.events import Advance, ignore_progress
from edgec.core.norms import norms_behind
from edgec.core.observe import run_until
from edgec.core.typed_torch import solve
from edgec.pruning.trace import executed

POSITIONS = 1024  # of each image, drawn at random, the same in both networks
RIDGE = 1e-3  # of the inputs' mean variance: how strongly the weights hold on to what they were


def reconstruct(
    dense: nn.Module, pruned: nn.Module, outs: Mapping[str, np.ndarray], ins: Mapping[str, np.ndarray],
    images: np.ndarray, seed: int, progress: Advance = ignore_progress,
) -> list[str]:  # fmt: skip
    """Fit the convolutions of `pruned` that lost inputs to those of `dense`, in place, over images [n, c, h, w].

    `outs` and `ins` say which channels of each layer stayed. Both networks are on the CPU, in eval mode. Means go into the
    bias, or into the running mean of the batch norm behind; a convolution with neither is fitted without. Grouped
    convolutions, and those that are not padded with zeros, stay as they are. Gives the names of the fitted layers.
    """
    example = torch.as_tensor(images[:1])
    lost = [e.name for e in executed(pruned, example) if e.name in ins and not ins[e.name].all()]
    lost = [name for name in lost if has_plain_kernel(pruned.get_submodule(name))]
    norms = norms_behind(pruned, example)
    with torch.no_grad():
        for index, name in enumerate(lost):
            conv = pruned.get_submodule(name)
            norm = pruned.get_submodule(norms[name]) if name in norms else None
            assert isinstance(conv, nn.Conv2d)
            _fit(conv, norm, _moments(dense, pruned, name, outs.get(name), images, seed))
            progress(index + 1, len(lost))
    return lost


def has_plain_kernel(module: nn.Module) -> bool:
    """Whether a module is a convolution of whole channels with zeros around: its outputs are linear in its patches."""
    return (
        isinstance(module, nn.Conv2d)
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


class _Moments:
    """Sums over positions of what a layer takes, x [in * kernel], and of what it shall put out, y [out]."""

    def __init__(self, taken: int, wanted: int) -> None:
        self.count = 0
        self.x, self.y = torch.zeros(taken, dtype=torch.float64), torch.zeros(wanted, dtype=torch.float64)
        self.xx = torch.zeros(taken, taken, dtype=torch.float64)
        self.xy = torch.zeros(taken, wanted, dtype=torch.float64)

    def add(self, x: Tensor, y: Tensor) -> None:
        self.count += len(x)
        self.x += x.sum(0)
        self.y += y.sum(0)
        self.xx += x.T @ x
        self.xy += x.T @ y


def _moments(
    dense: nn.Module, pruned: nn.Module, name: str, mask: np.ndarray | None, images: np.ndarray, seed: int
) -> _Moments:
    """The layer's inputs in the pruned network against its outputs in the dense one."""
    conv = pruned.get_submodule(name)
    assert isinstance(conv, nn.Conv2d) and not isinstance(conv.padding, str)
    kept = slice(None) if mask is None else torch.as_tensor(np.flatnonzero(mask))
    moments = _Moments(conv.weight[0].numel(), conv.out_channels)
    draw = torch.Generator().manual_seed(seed)
    for image in images:
        x, y = _ends(pruned, dense, name, torch.as_tensor(image[None]))
        positions = torch.randperm(y.shape[2] * y.shape[3], generator=draw)[:POSITIONS]
        columns = functional.unfold(x, conv.kernel_size, conv.dilation, conv.padding, conv.stride)
        moments.add(columns[0][:, positions].T, y[0, kept].flatten(1)[:, positions].T)
    return moments


def _ends(pruned: nn.Module, dense: nn.Module, name: str, image: Tensor) -> tuple[Tensor, Tensor]:
    """What a layer takes in the pruned network, and what it puts out in the dense one."""
    taken, _ = run_until(pruned, name, lambda: pruned(image))
    _, given = run_until(dense, name, lambda: dense(image))
    return taken, given


def _fit(conv: nn.Conv2d, norm: nn.Module | None, found: _Moments) -> None:
    """The ridge regression of y on x, around the weights that there are, in place."""
    centred = conv.bias is not None or isinstance(norm, nn.BatchNorm2d)
    mean_x, mean_y = found.x / found.count, found.y / found.count
    xx, xy = found.xx, found.xy
    if centred:
        xx, xy = xx - torch.outer(found.x, mean_x), xy - torch.outer(found.x, mean_y)
    weight = conv.weight.flatten(1).double().T
    ridge = (RIDGE * xx.diagonal().mean()).clamp(min=1e-12)
    weight = weight + solve(xx + ridge * torch.eye(len(xx), dtype=xx.dtype), xy - xx @ weight)
    conv.weight.copy_(weight.T.reshape(conv.weight.shape))
    if conv.bias is not None:
        conv.bias.copy_(mean_y - mean_x @ weight)
    elif isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
        norm.running_mean += mean_x @ weight - mean_y
