"""Watching modules run, only while a block runs: hooks never stay behind, modes come back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from edgec.core.typed_torch import modules_of

Kinds = type[nn.Module] | tuple[type[nn.Module], ...]
# name, module, inputs and output of a module that has just run; what it gives, unless None, replaces the output
Look = Callable[[str, nn.Module, tuple[Any, ...], Any], Any]


@contextmanager
def observing(net: nn.Module, which: Kinds | Iterable[str], look: Look) -> Generator[None, None, None]:
    """Call `look` after every run of the modules of the given types, or of the given names, while the block runs."""
    chosen = (which,) if isinstance(which, type) else tuple(which)
    kinds = tuple(kind for kind in chosen if isinstance(kind, type))
    modules = [(name, module) for name, module in modules_of(net).items() if isinstance(module, kinds)]
    modules += [(name, net.get_submodule(name)) for name in chosen if isinstance(name, str)]
    handles = [module.register_forward_hook(_hook(name, look)) for name, module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(name: str, look: Look) -> Callable[[nn.Module, tuple[Any, ...], Any], Any]:
    return lambda module, inputs, output: look(name, module, inputs, output)


@contextmanager
def evaluating(net: nn.Module) -> Generator[None, None, None]:
    """Run a network in eval mode without gradients while the block runs; each module gets its own mode back."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def observed_pass(net: nn.Module, example: Tensor, which: Kinds | Iterable[str], look: Look) -> Any:
    """The outputs of one pass in eval mode over `example` [n, c, h, w], on the network's device, observed by `look`."""
    with evaluating(net), observing(net, which, look):
        return net(example.to(next(net.parameters()).device))


class _Reached(Exception):
    """The module has run; the rest of the network is not needed."""


def run_until(net: nn.Module, name: str, run: Callable[[], object]) -> tuple[Tensor, Tensor]:
    """What the module `name` takes first and what it puts out when `run` runs the network, which stops there."""
    seen: list[Tensor] = []

    def stop(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.extend((inputs[0], output))
        raise _Reached

    with observing(net, [name], stop):
        try:
            run()
        except _Reached:
            pass
    return seen[0], seen[1]
