"""What one pass through a network shows: its convolutions in the order in which they run, and which make its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from edgec.core.errors import NetworkError
from edgec.core.observe import evaluating, observed_pass
from edgec.core.outputs import tensors_of


@dataclass(frozen=True)
class ExecutedConvolution:
    """A convolution in the order of execution, with what it does to the resolution."""

    name: str
    stride: float  # of its output against the input image
    downsamples: bool
    pooled: bool  # gives one place for the whole image


def executed(net: nn.Module, example: Tensor) -> list[ExecutedConvolution]:
    """The convolutions as they are run. Raises NetworkError for one that runs twice: its channels are shared."""
    layers: list[ExecutedConvolution] = []

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if any(e.name == name for e in layers):
            raise NetworkError(f"{name} runs twice in one pass; give each use a convolution of its own")
        pooled = output.shape[-1] == 1 and example.shape[-1] > 1
        small = pooled and example.shape[-1] > 64  # squeeze and excitation: no scale of its own
        stride = (layers[-1].stride if layers else 1.0) if small else example.shape[-1] / output.shape[-1]
        shrinks = not small and output.shape[-1] < inputs[0].shape[-1]
        layers.append(ExecutedConvolution(name, stride, shrinks, pooled))

    observed_pass(net, example, nn.Conv2d, note)
    return layers


def output_layers(net: nn.Module, example: Tensor) -> list[str]:
    """Layers whose output is an output of the network."""
    layer_of: dict[int, str] = {}
    kept: list[Tensor] = []

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept.append(output)  # alive, so that no other tensor takes its id
        layer_of[id(output)] = name

    outputs = observed_pass(net, example, (nn.Conv2d, nn.Linear), note)
    return [layer_of[id(o)] for o in tensors_of(outputs) if id(o) in layer_of]


def makes_images(net: nn.Module, example: Tensor, layers: Sequence[ExecutedConvolution]) -> bool:
    """Whether the output is one map no smaller than the input, and no map on the way as small as an eighth of it."""
    with evaluating(net):
        output = net(example.to(next(net.parameters()).device))
    if not isinstance(output, Tensor) or output.ndim != 4 or output.shape[-1] < example.shape[-1]:
        return False
    return all(e.stride < 8 or e.pooled for e in layers)
