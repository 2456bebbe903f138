"""Recorded changes of a network, pure JSON, that are replayed on a fresh module: no tracing, no pickled module.

A closed union. Each records its changes by module name, and `apply` makes them in place; NetworkError names what fails.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from edgec.core.errors import NetworkError


@dataclass(frozen=True)
class Resize:
    """New attributes of modules, with parameters of the new shapes: `{"neck.conv": {"out_channels": 48}}`."""

    kind: ClassVar[str] = "resize"
    changes: Mapping[str, Mapping[str, Any]]

    def apply(self, module: nn.Module) -> None:
        for name, attributes in self.changes.items():
            with _at(name):
                resize(module.get_submodule(name), attributes)


@dataclass(frozen=True)
class FoldNorms:
    """Batch norms that are part of the convolution before them: `{"neck.conv": "neck.bn"}`."""

    kind: ClassVar[str] = "fold"
    changes: Mapping[str, str]

    def apply(self, module: nn.Module) -> None:
        for name, norm in self.changes.items():
            with _at(name):
                resize(module.get_submodule(name), {"bias": True})
                module.set_submodule(norm, nn.Identity(), strict=True)


@dataclass(frozen=True)
class SpatialSvd:
    """Convolutions that are a column and a row convolution now, with so many channels between: `{"neck.conv": 24}`."""

    kind: ClassVar[str] = "spatial_svd"
    changes: Mapping[str, int]

    def apply(self, module: nn.Module) -> None:
        for name, rank in self.changes.items():
            with _at(name):
                module.set_submodule(name, column_and_row(module.get_submodule(name), rank))


@dataclass(frozen=True)
class QuantizationRecord:
    """What the int8 export needs, see `edgec.quantization.surgery.Quantization`; the float module is unchanged."""

    kind: ClassVar[str] = "quantize"
    changes: Mapping[str, Any]

    def apply(self, module: nn.Module) -> None:
        """Nothing: the export reads it."""


Surgery = Resize | FoldNorms | SpatialSvd | QuantizationRecord


def surgery_to_json(surgery: Surgery) -> dict[str, Any]:
    """As network.json holds it: {"kind", "changes"}."""
    return {"kind": surgery.kind, "changes": dict(surgery.changes)}


def surgery_of_json(kind: str, changes: Mapping[str, Any]) -> Surgery:
    """A surgery as network.json holds it. Raises NetworkError for a kind that this edgec does not know."""
    match kind:
        case Resize.kind:
            return Resize(changes)
        case FoldNorms.kind:
            return FoldNorms(changes)
        case SpatialSvd.kind:
            return SpatialSvd(changes)
        case QuantizationRecord.kind:
            return QuantizationRecord(changes)
        case _:
            raise NetworkError(f"surgery of kind {kind!r} is unknown; update edgec")


@contextmanager
def _at(name: str) -> Generator[None]:
    """Name the module in errors."""
    try:
        yield
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
