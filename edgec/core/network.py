"""A network at rest: architecture, arguments, surgeries and weights. No pickled module anywhere.

`build()` makes the module of the architecture, replays the surgeries (which record new shapes, so no
tracing is needed) and loads the weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from edgec.core.architectures import resolve_arch
from edgec.core.errors import NetworkError, StorageError
from edgec.core.files import sha256_of, write_atomic
from edgec.core.surgery import Surgery, surgery_of_json, surgery_to_json
from edgec.core.typed_torch import load_safetensors, random_state
from edgec.core.weights import load_into

FORMAT = 1


@dataclass(frozen=True)
class Network:
    """A network at rest."""

    arch: str
    args: Mapping[str, Any] = field(default_factory=dict[str, Any])
    surgeries: tuple[Surgery, ...] = ()
    weights: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor], repr=False)
    allow_code: bool = field(default=False, compare=False)

    @classmethod
    def initial(cls, arch: str, args: Mapping[str, Any], seed: int, allow_code: bool = False) -> Network:
        """A network with the architecture's own random initialization, reproducible by seed."""
        network = cls(arch, dict(args), allow_code=allow_code)
        with random_state(seed):
            return network.with_weights(network.blank())

    def blank(self) -> nn.Module:
        """The module with surgeries replayed and weights not loaded."""
        factory = resolve_arch(self.arch, self.allow_code)
        try:
            module = factory(**self.args)
        except (TypeError, ValueError) as error:
            raise NetworkError(
                f"network {self.arch!r} cannot be made from args {sorted(self.args)}: {error}"
            ) from error
        if not isinstance(module, nn.Module):
            raise NetworkError(
                f"network {self.arch!r}: the factory gave {type(module).__name__}, not an nn.Module"
            )
        for surgery in self.surgeries:
            surgery.apply(module)
        return module

    def build(self) -> nn.Module:
        """The module on the CPU, in eval mode, with its weights."""
        with random_state():
            module = self.blank()
        load_into(module, self.weights, self.arch)
        return module.eval()

    def with_weights(self, module: nn.Module) -> Network:
        """The same network with the weights of `module` (copied to the CPU)."""
        state = {
            name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()
        }
        return replace(self, weights=state)

    def with_surgery(self, surgery: Surgery, module: nn.Module | None = None) -> Network:
        """The network with one more surgery and, when its shapes changed, the weights of `module`."""
        network = replace(self, surgeries=(*self.surgeries, surgery))
        return network if module is None else network.with_weights(module)

    def surgery(self, kind: str) -> Surgery | None:
        """The last surgery of a kind."""
        return next((s for s in reversed(self.surgeries) if s.kind == kind), None)

    @property
    def parameters(self) -> int:
        """Number of trainable parameters: all but batch-norm statistics."""
        statistics = ("running_mean", "running_var", "num_batches_tracked")
        return sum(t.numel() for name, t in self.weights.items() if not name.endswith(statistics))

    def _structure(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "arch": self.arch,
            "args": dict(self.args),
            "surgeries": [surgery_to_json(surgery) for surgery in self.surgeries],
        }

    @cached_property
    def _bytes(self) -> bytes:
        return safetensors.torch.save(dict(self.weights))

    @cached_property
    def digest(self) -> str:
        """sha256 of structure and weights."""
        digest = hashlib.sha256(json.dumps(self._structure(), sort_keys=True).encode())
        digest.update(hashlib.sha256(self._bytes).digest())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write network.json and weights.safetensors; network.json, which names the digest, comes last."""
        write_atomic(folder / "weights.safetensors", self._bytes)
        structure = self._structure() | {"weights_sha256": hashlib.sha256(self._bytes).hexdigest()}
        write_atomic(folder / "network.json", json.dumps(structure, indent=1).encode())

    @classmethod
    def load(cls, folder: Path, allow_code: bool = False) -> Network:
        """Read a saved network. Raises StorageError when a byte differs from what was written."""
        place = folder / "network.json"
        try:
            structure = json.loads(place.read_bytes())
            if structure["format"] != FORMAT:
                raise NetworkError(
                    f"{place}: format {structure['format']!r}, this edgec reads {FORMAT}; update edgec"
                )
            surgeries = tuple(surgery_of_json(s["kind"], s["changes"]) for s in structure["surgeries"])
            arch, args, expected = structure["arch"], structure["args"], structure["weights_sha256"]
        except FileNotFoundError:
            raise NetworkError(f"{place}: not found; give a folder that edgec wrote") from None
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{place}: damaged ({error}); create it again") from error
        weights = folder / "weights.safetensors"
        if not weights.is_file() or sha256_of(weights) != expected:
            raise StorageError(
                f"{weights}: its sha256 is not the {expected[:12]}... that was written; create it again"
            )
        return cls(arch, args, surgeries, load_safetensors(weights), allow_code)
