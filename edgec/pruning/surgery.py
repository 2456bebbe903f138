"""Removing channels: slices of the weights, and a record of the new shapes. No tracing is needed to replay it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from edgec.core.errors import StageError
from edgec.core.network import Network
from edgec.core.surgery import Resize, resize
from edgec.pruning.channels import is_depthwise


def prune_channels(
    network: Network,
    net: nn.Module,
    outs: Mapping[str, np.ndarray],
    ins: Mapping[str, np.ndarray],
    biases: Mapping[str, torch.Tensor] | None = None,
) -> Network:
    """The network with only the channels that `outs` and `ins` keep (bool arrays by layer name).

    `net` is the module of `network`, with the weights to slice. `biases` [out] are added to convolutions that had
    none, by layer name, before slicing. The recorded surgery and the returned weights need neither again.
    """
    changes: dict[str, dict[str, Any]] = {}
    state = {name: t.detach().cpu().clone() for name, t in net.state_dict().items()}
    pruned = network.build()
    for name in sorted(set(outs) | set(ins) | set(biases or {})):
        module = net.get_submodule(name)
        keep_out, keep_in = _index(outs.get(name)), _index(ins.get(name))
        attributes: dict[str, Any] = {}
        match module:
            case nn.Conv2d():
                depthwise = is_depthwise(module)
                weight = state[f"{name}.weight"]
                weight = weight if keep_out is None else weight[keep_out]
                state[f"{name}.weight"] = weight if keep_in is None or depthwise else weight[:, keep_in]
                attributes["out_channels"] = int(state[f"{name}.weight"].shape[0])
                attributes["in_channels"] = (
                    attributes["out_channels"]
                    if depthwise
                    else int(state[f"{name}.weight"].shape[1]) * module.groups
                )
                if depthwise:
                    attributes["groups"] = attributes["out_channels"]
                if biases and name in biases:
                    state[f"{name}.bias"] = biases[name].clone()
                    attributes["bias"] = True
                _slice(state, f"{name}.bias", keep_out)
            case nn.Linear():
                weight = state[f"{name}.weight"]
                weight = weight if keep_out is None else weight[keep_out]
                state[f"{name}.weight"] = weight if keep_in is None else weight[:, keep_in]
                attributes["out_features"], attributes["in_features"] = map(
                    int, state[f"{name}.weight"].shape
                )
                _slice(state, f"{name}.bias", keep_out)
            case nn.BatchNorm2d():
                for part in ("weight", "bias", "running_mean", "running_var"):
                    _slice(state, f"{name}.{part}", keep_out)
                attributes["num_features"] = int(state[f"{name}.running_mean"].shape[0])
            case nn.PReLU():
                _slice(state, f"{name}.weight", keep_out)
                attributes["num_parameters"] = int(state[f"{name}.weight"].shape[0])
            case _:
                raise StageError(
                    f"{name}: a {type(module).__name__} cannot be pruned; add it to `ignore` of the prune stage"
                )
        changes[name] = attributes
        resize(pruned.get_submodule(name), attributes)
    pruned.load_state_dict({n: t.contiguous() for n, t in state.items()})
    return network.with_surgery(Resize(changes), pruned)


def _index(mask: np.ndarray | None) -> torch.Tensor | None:
    return None if mask is None else torch.as_tensor(np.flatnonzero(mask))


def _slice(state: dict[str, torch.Tensor], name: str, keep: torch.Tensor | None) -> None:
    if keep is not None and name in state:
        state[name] = state[name][keep]
