"""Where architectures come from: those that edgec ships, by name, and the user's own, by dotted name.

This is the only file that knows where shipped ones live.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from edgec.core.errors import NetworkError

SHIPPED = "edgec.models"


def shipped_archs() -> list[str]:
    """Names of the architectures that edgec ships."""
    from pkgutil import iter_modules

    package = import_module(SHIPPED)
    names = [m.name for m in iter_modules(package.__path__) if m.name != "blocks"]
    return sorted(n for n in names if hasattr(import_module(f"{SHIPPED}.{n}"), "build"))


def resolve_arch(arch: str, allow_code: bool) -> Callable[..., object]:
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


def strides_of(arch: str) -> tuple[int, ...] | None:
    """The strides of a shipped detector's heads, as it names them in STRIDES; None where it names none, and for others."""
    if arch not in shipped_archs():
        return None
    return getattr(import_module(f"{SHIPPED}.{arch}"), "STRIDES", None)


def resolve_dotted(name: str) -> Callable[..., Any]:
    """`package.module:function` as an object. The caller has made sure that the user allowed it."""
    module_name, _, attribute = name.partition(":")
    try:
        target = getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise NetworkError(f"{name!r} cannot be imported ({error}); write package.module:function") from error
    if not callable(target):
        raise NetworkError(f"{name!r} is not callable")
    return target


def load_darknet_weights(module: nn.Module, path: Path) -> None:
    """Load a Darknet .weights file into a module of `arch: darknet`, in place."""
    try:
        import_module(f"{SHIPPED}.darknet").load_weights(module, path.read_bytes())
    except (TypeError, AttributeError, ValueError) as error:
        raise NetworkError(f"{path}: {error}") from error
