# pyright: reportUnknownMemberType=false
"""From a torch module to an ONNX graph: batch norms folded, names kept, metadata stripped, checked."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import onnx
import torch
from onnxscript import opset18
from torch import Tensor, nn

from edgec.core.errors import StageError
from edgec.core.norms import fold_norms
from edgec.core.outputs import tensors_of
from edgec.onnx.graph import strip, validate
from edgec.onnx.session import OnnxSession

INPUT = "images"
op: Any = opset18  # its types know nothing of tensors that are traced
LARGEST_SIDE = 2**16  # of an image that a graph with free sizes takes, pixels


Tail = Callable[[Any], Any]  # what is computed from a module's outputs inside the graph


class ExportedMish(nn.Module):
    """x * tanh(softplus(x)) = x * t / (t + 2) with t = e^x (e^x + 2).

    onnxruntime's Mish operator takes three times as long on a CPU. Beyond 5.5 the factor is 1 to within 4e-5, and t
    still fits half precision.
    """

    LIMIT = 5.5

    def forward(self, x: Tensor) -> Tensor:
        e = x.clamp(max=self.LIMIT).exp()
        t = e * (e + 2)
        return x * (t / (t + 2))


def with_fast_mish(net: nn.Module) -> nn.Module:
    """Replace every nn.Mish, in place."""
    for name, child in net.named_children():
        if isinstance(child, nn.Mish):
            setattr(net, name, ExportedMish())
        else:
            with_fast_mish(child)
    return net


class _WithTail(nn.Module):
    def __init__(self, net: nn.Module, tail: Tail) -> None:
        super().__init__()
        self.net, self.tail = net, tail

    def forward(self, images: Tensor) -> Any:
        return self.tail(self.net(images))


def _std(
    x: Any, dim: Sequence[int] | None = None, correction: float | None = None, keepdim: bool = False
) -> Any:
    """Standard deviation as five operators; torch's own decomposition takes a dozen, which reshape by run-time sizes."""
    axes = op.Constant(value_ints=list(dim)) if dim else None
    mean = op.ReduceMean(x, axes, keepdims=1)
    centred = op.Sub(x, mean)
    variance = op.ReduceMean(op.Mul(centred, centred), axes, keepdims=int(keepdim))
    if correction == 0:
        return op.Sqrt(variance)
    count = op.Cast(op.Div(op.Size(x), op.Size(mean)), to=onnx.TensorProto.FLOAT)
    spare = op.Constant(value_float=1.0 if correction is None else float(correction))
    return op.Sqrt(op.Mul(variance, op.Div(count, op.Sub(count, spare))))


def to_onnx(
    net: nn.Module, example: Tensor, outputs: Sequence[str], opset: int = 18, dynamic_batch: bool = False,
    tail: Tail | None = None, size_multiple: int | None = None,
) -> onnx.ModelProto:  # fmt: skip
    """The graph of a module in eval mode, with initializers named as in its state_dict; `tail` follows its outputs.

    With `size_multiple` it takes any height and width that are multiples of it, otherwise those of `example`.
    Raises StageError when the module cannot be exported or the graph is not valid.
    """
    folded = with_fast_mish(fold_norms(net, example))
    folded = folded if tail is None else _WithTail(folded, tail).eval()
    inputs = (example.cpu().repeat(2, 1, 1, 1) if dynamic_batch else example.cpu(),)
    sizes = free_sizes(dynamic_batch, size_multiple)
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    try:
        quiet.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                folded, inputs, dynamo=True, verbose=False, opset_version=opset, input_names=[INPUT],
                output_names=list(outputs), dynamic_shapes=sizes, external_data=False, optimize=True,
                custom_translation_table={torch.ops.aten.std.correction: _std},
            )  # fmt: skip
    except Exception as error:  # the exporter raises many classes of its own
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        remedy = "avoid Python control flow on tensors" + (
            ", or set dynamic_size: false" if size_multiple else ""
        )
        raise StageError(f"the network cannot be exported to ONNX ({first}); {remedy}") from error
    finally:
        quiet.setLevel(level)
    assert program is not None
    model = program.model_proto
    strip(model)
    if tail is not None:
        _drop_prefix(model, "net.")
    validate(model)
    if size_multiple is not None:
        _require_sizes(model, folded, example, size_multiple)
    return model


def free_sizes(batch: bool, multiple: int | None) -> tuple[dict[int, Any]] | None:
    """What of an input [n, c, h, w] may change, as torch.export is told: the batch, and sides that are multiples."""
    sizes: dict[int, Any] = {}
    if batch:
        sizes[0] = torch.export.Dim("batch", min=1, max=1024)
    if multiple is not None:
        for axis, name in ((2, "height"), (3, "width")):
            free = torch.export.Dim(f"{name}_cells" if multiple > 1 else name, min=1, max=LARGEST_SIDE)
            sizes[axis] = multiple * free if multiple > 1 else free
    return (sizes,) if sizes else None


def _require_sizes(model: onnx.ModelProto, net: nn.Module, example: Tensor, multiple: int) -> None:
    """Raise StageError when the graph does not take another height: the exporter then holds on to the example's."""
    half = max(multiple, example.shape[2] // 2 // multiple * multiple)
    images = torch.zeros(
        2 if model.graph.input[0].type.tensor_type.shape.dim[0].dim_param else 1, *example.shape[1:]
    )
    images = images[:, :, :half]
    wanted: Any = "what torch gives"
    try:
        with torch.no_grad():
            outputs = net(images)
        wanted = [tuple(o.shape) for o in tensors_of(outputs)]
        session = OnnxSession(model.SerializeToString())
        found: Any = [o.shape for o in session.run({INPUT: images.numpy()})]
    except (StageError, RuntimeError) as error:  # of onnxruntime, of torch
        found = str(error).splitlines()[0]
    if found != wanted:
        raise StageError(
            f"the network does not take every size that is a multiple of {multiple} (on {list(images.shape)}: {found}, "
            f"wanted {wanted}); set dynamic_size: false"
        )


def _drop_prefix(model: onnx.ModelProto, prefix: str) -> None:
    """Name the weights as the network does, not as the module around it."""
    names = {i.name for i in model.graph.initializer if i.name.startswith(prefix)}
    for item in model.graph.initializer:
        if item.name in names:
            item.name = item.name.removeprefix(prefix)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name in names:
                node.input[index] = name.removeprefix(prefix)
