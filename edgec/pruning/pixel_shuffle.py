"""PixelShuffle, for torch-pruning: it moves channels into space, so no channel can be followed through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from edgec.core.errors import NetworkError
from edgec.core.observe import observing

SHUFFLES = (nn.PixelShuffle, nn.PixelUnshuffle)


class Shuffle(tp.BasePruningFunc):
    """PixelShuffle for torch-pruning, which takes it for an elementwise operation: channels do not pass it."""

    TARGET_MODULES = SHUFFLES

    def __init__(self, channels: Mapping[nn.Module, tuple[int, int]]) -> None:
        super().__init__()
        self.channels = channels

    def get_in_channels(self, layer: nn.Module) -> int:
        return self.channels[layer][0]

    def get_out_channels(self, layer: nn.Module) -> int:
        return self.channels[layer][1]

    def prune_in_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        raise AssertionError("groups with a PixelShuffle stay whole")

    def prune_out_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        raise AssertionError("groups with a PixelShuffle stay whole")


class _Calls(TorchFunctionMode):
    """Counts the calls of pixel_shuffle and its inverse."""

    count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += func in (torch.pixel_shuffle, torch.pixel_unshuffle)
        return func(*args, **(kwargs or {}))


def shuffles(net: nn.Module, example: Tensor) -> dict[Any, tp.BasePruningFunc]:
    """What torch-pruning must know of the network's PixelShuffles: channels in and out, from one forward pass.

    Raises NetworkError for those that cannot be distinguished: a module that runs twice, a function without a module.
    """
    channels: dict[nn.Module, tuple[int, int]] = {}

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if module in channels:
            raise NetworkError(f"{name} runs twice in one pass; give each use a PixelShuffle of its own")
        channels[module] = inputs[0].shape[1], output.shape[1]

    with torch.no_grad(), observing(net, SHUFFLES, note), _Calls() as calls:
        net(example.cpu())
    if calls.count > len(channels):
        raise NetworkError(
            f"{type(net).__name__} calls pixel_shuffle as a function, behind which channels cannot be followed; "
            "make it a module (nn.PixelShuffle)"
        )
    return {kind: Shuffle(channels) for kind in SHUFFLES}
