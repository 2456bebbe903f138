"""The network that a recipe starts from: a shipped architecture, a Darknet file, or the user's own."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from edgec.core.architectures import converter, load_darknet_weights
from edgec.core.errors import NetworkError, Problem, RecipeError
from edgec.core.network import Network
from edgec.core.typed_torch import load_safetensors
from edgec.core.weights import load_into
from edgec.recipe import Recipe
from edgec.tasks.protocol import Building


def check_files(recipe: Recipe) -> None:
    """Raise RecipeError for every file that the network's source names and that does not exist."""
    problems = [
        Problem(f"network.{key}", f"{path} does not exist", "check the path")
        for key, path in (("cfg", recipe.network.cfg), ("weights", recipe.network.weights))
        if path is not None and not path.exists()
    ]
    for name, stage in recipe.stages.items():
        teacher = stage.teacher_source()
        if isinstance(teacher, Path) and not teacher.exists():
            problems.append(Problem(f"stages.{name}.teacher", f"{teacher} does not exist", "check the path"))
    if problems:
        raise RecipeError(problems)


def initial_network(recipe: Recipe, task: Building, allow_code: bool = False) -> Network:
    """The network of the recipe, with its weights, or with random ones (by the recipe's seed)."""
    source = recipe.network
    if source.weights is not None and source.weights.is_dir():
        return Network.load(source.weights, allow_code)
    args: dict[str, Any] = task.network_args(source)
    if source.cfg is not None:
        args["cfg"] = source.cfg.read_text(encoding="utf-8", errors="replace")
    network = Network.initial(source.arch, args, recipe.seed, allow_code)
    if source.weights is None:
        return network
    module = network.build()
    if source.weights.suffix == ".weights":
        load_darknet_weights(module, source.weights)
    else:
        state = own_names(source.arch, module, read_weights(source.weights), source.weights)
        load_into(module, state, str(source.weights))
    return network.with_weights(module)


def own_names(arch: str, module: nn.Module, state: Mapping[str, Tensor], path: Path) -> Mapping[str, Tensor]:
    """The tensors under the network's own names; those of others' checkpoints by the architecture's `convert`."""
    wanted, convert = module.state_dict().keys(), converter(arch)
    if convert is None or wanted <= state.keys() or state.keys() <= wanted:
        return state  # also when tensors are missing or superfluous: `load_into` names them
    try:
        return convert(state)
    except ValueError as error:
        raise NetworkError(
            f"{path}: its names are neither the network's own nor ones that {arch} converts ({error}); "
            "check network.args, or save the state_dict under the network's names"
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a torch checkpoint read with `weights_only=True`.

    A checkpoint may hold them under `state_dict`, `model` or `ema`, and prefixed by `module.`.
    """
    try:
        if path.suffix == ".safetensors":
            return load_safetensors(path)
        loaded: object = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = "save the state_dict alone, with safetensors or torch.save(net.state_dict(), ...)"
        raise NetworkError(f"{path}: no tensors can be read ({text}); {remedy}") from error
    state = _dict(loaded)
    for key in ("state_dict", "model", "ema"):
        inner = _dict(state.get(key)) if state is not None else None
        state = state if inner is None else inner
    tensors = {name: t for name, t in (state or {}).items() if isinstance(t, Tensor)}
    if state is None or len(tensors) < len(state):
        raise NetworkError(f"{path}: holds no state_dict; save torch.save(net.state_dict(), ...)")
    return {str(name).removeprefix("module."): tensor for name, tensor in tensors.items()}


def _dict(value: object) -> dict[object, object] | None:
    return cast("dict[object, object]", value) if isinstance(value, dict) else None
