"""The channels of a layer."""

from __future__ import annotations

from torch import nn

from edgec.core.errors import NetworkError


def is_depthwise(module: nn.Module) -> bool:
    """Whether a module is a convolution that looks at each channel alone."""
    return (
        isinstance(module, nn.Conv2d)
        and module.groups == module.in_channels == module.out_channels
        and module.groups > 1
    )


def channels_of(module: nn.Module, side: str) -> int:
    """Number of output or input channels of a layer."""
    match module:
        case nn.Conv2d():
            return module.out_channels if side == "out" else module.in_channels
        case nn.Linear():
            return module.out_features if side == "out" else module.in_features
        case nn.BatchNorm2d():
            return module.num_features
        case nn.PReLU():
            return module.num_parameters
        case _:
            raise NetworkError(f"a {type(module).__name__} has no channels that can be pruned")
