"""Reading features from named modules, only while a block runs."""

from __future__ import annotations

import difflib
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from edgec.core.errors import NetworkError
from edgec.core.observe import observing
from edgec.core.typed_torch import modules_of


@contextmanager
def tapped(net: nn.Module, names: Iterable[str]) -> Generator[dict[str, Tensor]]:
    """The outputs of the named modules, filled anew by every forward pass inside the block.

    Raises NetworkError for a name that does not exist, or a module whose output is not one tensor.
    """
    modules = modules_of(net)
    features: dict[str, Tensor] = {}
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in modules or not name:
            close = difflib.get_close_matches(name, [n for n in modules if n], 3, cutoff=0.4)
            hint = f"did you mean {' or '.join(close)}?" if close else "list them with net.named_modules()"
            raise NetworkError(f"tap {name!r} is not a module of {type(net).__name__}; {hint}")

    def keep(name: str, module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        if not isinstance(output, Tensor):
            raise NetworkError(
                f"tap {name!r} gives {type(output).__name__}, not one tensor; tap a module inside it"
            )
        features[name] = output

    with observing(net, wanted, keep):
        yield features
