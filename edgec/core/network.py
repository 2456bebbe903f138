"""A network at rest: architecture, arguments, surgeries and weights. No pickled module anywhere.

`build()` makes the module of the architecture, replays the surgeries (which record new shapes, so no
tracing is needed) and loads the weights. This is the only file that knows where architectures live.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from edgec.core.errors import NetworkError, StorageError
from edgec.core.files import sha256_of, write_atomic

FORMAT = 1
SHIPPED = "edgec.models"


@dataclass(frozen=True)
class Surgery:
    """A recorded change of a network, pure JSON.

    kind "resize": per module the new attributes, `{"neck.conv": {"out_channels": 48, "in_channels": 32}}`.
    kind "fold": batch norms that are part of the convolution before them, `{"neck.conv": "neck.bn"}`.
    kind "spatial_svd": convolutions that are a column and a row convolution now, and the channels between: `{"neck.conv": 24}`.
    kind "quantize": what the int8 export needs: per tensor range, layers kept in float, formats of weights; the module is
    unchanged.
    """

    kind: str
    changes: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "changes": dict(self.changes)}


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
        """A network with the architecture's own random initialisation, reproducible by seed."""
        network = cls(arch, dict(args), allow_code=allow_code)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
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
            replay(module, surgery)
        return module

    def build(self) -> nn.Module:
        """The module on the CPU, in eval mode, with its weights."""
        with torch.random.fork_rng():
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
            "surgeries": [surgery.to_json() for surgery in self.surgeries],
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
            surgeries = tuple(Surgery(s["kind"], s["changes"]) for s in structure["surgeries"])
            arch, args, expected = structure["arch"], structure["args"], structure["weights_sha256"]
        except FileNotFoundError:
            raise NetworkError(f"{place}: not found; give a folder that edgec wrote") from None
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{place}: damaged ({error}); make it again") from error
        weights = folder / "weights.safetensors"
        if not weights.is_file() or sha256_of(weights) != expected:
            raise StorageError(
                f"{weights}: its sha256 is not the {expected[:12]}... that was written; make it again"
            )
        return cls(arch, args, surgeries, safetensors.torch.load_file(weights), allow_code)


def shipped_archs() -> list[str]:
    """Names of the architectures that edgec ships."""
    from pkgutil import iter_modules

    package = import_module(SHIPPED)
    names = [m.name for m in iter_modules(package.__path__) if m.name != "blocks"]
    return sorted(n for n in names if hasattr(import_module(f"{SHIPPED}.{n}"), "build"))


def resolve_arch(arch: str, allow_code: bool) -> Callable[..., nn.Module]:
    """The factory of an architecture.

    Raises NetworkError for an unknown name, and for the user's own code unless it was allowed.
    """
    if ":" in arch:
        if not allow_code:
            raise NetworkError(f"network.arch {arch!r} is your own code; pass --allow-code to run it")
        return resolve_dotted(arch)
    if (
        not re.fullmatch(r"[a-z][a-z0-9_]*", arch)
        or find_spec(f"{SHIPPED}.{arch}") is None
        or arch == "blocks"
    ):
        raise NetworkError(
            f"network.arch {arch!r} is not one of {', '.join(shipped_archs())}, nor package.module:factory"
        )
    return import_module(f"{SHIPPED}.{arch}").build


def converter(arch: str) -> Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None:
    """What brings the tensors of others' checkpoints under a shipped architecture's names: its `convert`, if any."""
    return None if ":" in arch else getattr(import_module(f"{SHIPPED}.{arch}"), "convert", None)


def resolve_dotted(name: str) -> Callable[..., Any]:
    """`package.module:function` as an object. The caller has made sure that the user allowed it."""
    module_name, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise NetworkError(f"{name!r} cannot be imported ({error}); write package.module:function") from error
    if not callable(found):
        raise NetworkError(f"{name!r} is not callable")
    return found


def load_darknet_weights(module: nn.Module, path: Path) -> None:
    """Load a Darknet .weights file into a module of `arch: darknet`, in place."""
    try:
        import_module(f"{SHIPPED}.darknet").load_weights(module, path.read_bytes())
    except (TypeError, AttributeError, ValueError) as error:
        raise NetworkError(f"{path}: {error}") from error


def load_into(module: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Load weights strictly. Raises NetworkError that names every tensor that does not fit."""
    wanted = module.state_dict()
    problems = [f"{n}: missing" for n in wanted if n not in weights]
    problems += [f"{n}: not part of the network" for n in weights if n not in wanted]
    problems += [
        f"{n}: shape {tuple(weights[n].shape)}, the network has {tuple(t.shape)}"
        for n, t in wanted.items()
        if n in weights and weights[n].shape != t.shape
    ]
    problems += [
        f"{n}: holds NaN or infinity" for n, t in weights.items() if not bool(torch.isfinite(t).all())
    ]
    if problems:
        shown = "\n  ".join(problems[:12]) + (
            f"\n  and {len(problems) - 12} more" if len(problems) > 12 else ""
        )
        raise NetworkError(f"the weights do not fit {what}:\n  {shown}")
    module.load_state_dict(dict(weights))


def replay(module: nn.Module, surgery: Surgery) -> None:
    """Apply a recorded surgery to a freshly made module, in place."""
    if surgery.kind == "quantize":
        return  # read by the export; the float module is unchanged
    if surgery.kind not in ("resize", "fold", "spatial_svd"):
        raise NetworkError(f"surgery of kind {surgery.kind!r} is unknown; update edgec")
    for name, change in surgery.changes.items():
        try:
            layer = module.get_submodule(name)
            if surgery.kind == "resize":
                resize(layer, change)
            elif surgery.kind == "fold":
                resize(layer, {"bias": True})
                module.set_submodule(change, nn.Identity(), strict=True)
            else:
                module.set_submodule(name, column_and_row(layer, change))
        except AttributeError as error:
            raise NetworkError(f"surgery on {name!r}: {error}") from error


def resize(layer: nn.Module, attributes: Mapping[str, Any]) -> None:
    """Give one layer new shapes, with fresh parameters of that size, in place."""

    def fresh(*shape: int) -> nn.Parameter:
        return nn.Parameter(torch.zeros(shape))

    for name, value in attributes.items():
        if name != "bias" and not hasattr(layer, name):
            raise AttributeError(f"{type(layer).__name__} has no attribute {name!r}")
        if name != "bias":
            setattr(layer, name, value)
    match layer:
        case nn.ConvTranspose2d():
            layer.weight = fresh(layer.in_channels, layer.out_channels // layer.groups, *layer.kernel_size)
        case nn.Conv2d():
            layer.weight = fresh(layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
        case nn.Linear():
            layer.weight = fresh(layer.out_features, layer.in_features)
        case nn.BatchNorm2d():
            layer.weight, layer.bias = fresh(layer.num_features), fresh(layer.num_features)
            layer.running_mean = torch.zeros(layer.num_features)
            layer.running_var = torch.ones(layer.num_features)
            return
        case nn.PReLU():
            layer.weight = fresh(layer.num_parameters)
            return
        case _:
            raise AttributeError(f"a {type(layer).__name__} cannot be resized")
    if layer.bias is not None or attributes.get("bias"):
        layer.bias = fresh(
            layer.weight.shape[1] if isinstance(layer, nn.ConvTranspose2d) else layer.weight.shape[0]
        )


def column_and_row(conv: nn.Module, rank: int) -> nn.Sequential:
    """A column convolution (kh x 1) to `rank` channels and a row convolution (1 x kw), of the geometry of one, weights new."""
    if not isinstance(conv, nn.Conv2d) or isinstance(conv.padding, str):
        raise NetworkError(f"a {type(conv).__name__} cannot be decomposed")
    (kh, kw), (sh, sw), (dh, dw) = conv.kernel_size, conv.stride, conv.dilation
    ph, pw = conv.padding
    column = nn.Conv2d(conv.in_channels, rank, (kh, 1), (sh, 1), (ph, 0), (dh, 1), bias=False)
    row = nn.Conv2d(rank, conv.out_channels, (1, kw), (1, sw), (0, pw), (1, dw), bias=conv.bias is not None)
    return nn.Sequential(column, row).train(conv.training)
