"""Checkpoints of a training: safetensors and JSON, no pickle; written whole or not at all, verified before use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from edgec.core.files import write_atomic
from edgec.training.ema import Ema

KEPT = 2


@dataclass
class State:
    """Everything that a training is made of. What is missing here would break a resume."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    scaler: torch.amp.GradScaler
    helpers: nn.Module | None = None

    def tensors(self) -> dict[str, Tensor]:
        tensors = {f"net/{n}": t for n, t in self.net.state_dict().items()}
        if self.ema is not None:
            tensors |= {f"ema/{n}": t for n, t in self.ema.average.items()}
        if self.helpers is not None:
            tensors |= {f"helpers/{n}": t for n, t in self.helpers.state_dict().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{n}": t for n, t in slots.items() if isinstance(t, Tensor)}
        tensors["rng/torch"] = torch.get_rng_state()
        if torch.cuda.is_available() and next(self.net.parameters()).is_cuda:
            tensors["rng/cuda"] = torch.cuda.get_rng_state()
        return {n: t.detach().cpu().clone().contiguous() for n, t in tensors.items()}

    def counters(self) -> dict[str, Any]:
        return {"ema_updates": self.ema.updates if self.ema else 0, "scaler": self.scaler.state_dict()}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

        self.net.load_state_dict(part("net/"))
        if self.helpers is not None:
            self.helpers.load_state_dict(part("helpers/"))
        if self.ema is not None:
            self.ema.load(part("ema/"), int(counters["ema_updates"]))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in part("optimizer/").items():
            index, _, slot = name.partition("/")
            slots.setdefault(int(index), {})[slot] = tensor
        self.optimizer.load_state_dict(
            {"state": slots, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )
        if counters["scaler"]:
            self.scaler.load_state_dict(dict(counters["scaler"]))
        torch.set_rng_state(tensors["rng/torch"])
        if "rng/cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["rng/cuda"])


def save(folder: Path, epoch: int, state: State, progress: Mapping[str, Any]) -> None:
    """Write the checkpoint of a finished epoch; the last two stay."""
    data = safetensors.torch.save(state.tensors())
    name = f"epoch-{epoch:06d}"
    write_atomic(folder / f"{name}.safetensors", data)
    tree = {"epoch": epoch, "sha256": hashlib.sha256(data).hexdigest(), "state": state.counters(), **progress}
    write_atomic(folder / f"{name}.json", json.dumps(tree | {"itself": _digest(tree)}).encode())
    for old in sorted(folder.glob("epoch-*.json"))[:-KEPT]:
        old.unlink(missing_ok=True)
        old.with_suffix(".safetensors").unlink(missing_ok=True)


def _digest(tree: Mapping[str, Any]) -> str:
    """sha256 of what a checkpoint's JSON says."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def load_last(folder: Path, state: State, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """Restore the newest checkpoint that is whole; its JSON, or None when there is none. Damaged ones are removed."""
    for path in sorted(folder.glob("epoch-*.json"), reverse=True):
        try:
            progress = json.loads(path.read_bytes())
            if progress.pop("itself") != _digest(progress):
                raise ValueError("its JSON is not what was written")
            data = path.with_suffix(".safetensors").read_bytes()
            if hashlib.sha256(data).hexdigest() != progress["sha256"]:
                raise ValueError("its sha256 is not what was written")
            state.restore(safetensors.torch.load(data), progress["state"])
        except (OSError, ValueError, KeyError, AttributeError) as error:
            warn(f"checkpoint {path.stem} is damaged ({error}); the one before it is used")
            path.unlink(missing_ok=True)  # or it would crowd out those to come
            path.with_suffix(".safetensors").unlink(missing_ok=True)
            continue
        return progress
    return None
