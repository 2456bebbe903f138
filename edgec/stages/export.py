"""The export stage: ONNX artifacts with contract and golden files, each measured in onnxruntime after it is written."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from torch import nn

from edgec.core.contract.base import Contract
from edgec.core.errors import StageError
from edgec.core.files import write_atomic
from edgec.core.network import Network
from edgec.core.outputs import tensors_of
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.artifact_id import AnyArtifact, ArtifactId, Precision, Role
from edgec.core.results.export import ArtifactResult, ExportResult
from edgec.core.results.fusion import Fusion
from edgec.env import Env
from edgec.onnx.export import to_onnx
from edgec.onnx.fp16 import to_fp16
from edgec.onnx.graph import clone
from edgec.onnx.parity import LEAST_DB_TO_TORCH, snr_db
from edgec.onnx.session import OnnxSession
from edgec.quantization.integer_check import fusion, wanted
from edgec.quantization.surgery import quantization_of
from edgec.quantization.weights.compact import compact
from edgec.quantization.weights.palettize import palettized
from edgec.recipe import INTEGERS, Export
from edgec.runtimes.artifact import predictor, write_artifact
from edgec.tasks.predictor import torch_predictor
from edgec.tasks.protocol import Split

GOLDEN_IMAGES = 2
# Whose accuracy stands for the stage. fp32 comes before fp16: without integers, the network itself is reported, and fp16
# is a smaller copy of it. What is shipped goes by size instead: `core.results.export.SMALLEST_FIRST`.
FINAL: tuple[Precision, ...] = ("codebook", "int8", "fp32", "fp16")


@dataclass(frozen=True)
class Shape:
    """What an artifact takes: a golden input, and whether other sizes go as well."""

    golden: np.ndarray  # [1, c, h, w]
    multiple: int | None  # any height and width that are multiples of it; None: those of `golden` alone
    kind: Literal["normal", "tile"] = "normal"


def export(config: Export, network: Network, env: Env) -> tuple[Network, ExportResult]:
    """Write `model.<precision>.onnx` (and `dense.fp32.onnx`, `model.<precision>.tile.onnx`) into env.out.

    The result has of each artifact: file, bytes, precision, parameters, accuracy in onnxruntime on each split, the drop from
    the torch network it came from, signal-to-noise ratio, fusion. Raises StageError when an artifact's outputs are not torch's.
    """
    _check_precisions(config, network, env)
    artifacts: dict[AnyArtifact, ArtifactResult] = {}
    if config.dense and env.dense.digest != network.digest:
        artifacts |= _write(
            "dense", env.dense, config.model_copy(update={"precisions": ("fp32",), "tile": None}), env
        )
    artifacts |= _write("model", network, config, env)
    shown = (artifacts.get(ArtifactId("model", precision)) for precision in FINAL)
    final = next((artifact.val for artifact in shown if artifact is not None), None)
    return network, ExportResult(artifacts=artifacts, final=final or Accuracy())


def _check_precisions(config: Export, network: Network, env: Env) -> None:
    """Raise StageError for integers that the network was not prepared for, or that no runtime here runs."""
    asked = [p for p in config.precisions if p in INTEGERS]
    quantization = quantization_of(network)
    if asked and quantization is None:
        raise StageError(
            f"stages.{env.stage}: {asked[0]} needs a quantize stage before it; add one, or take {asked[0]} out of precisions"
        )
    if asked and quantization is not None and quantization.activation_bits != 8:
        raise StageError(
            f"stages.{env.stage}: onnxruntime has no convolution for activations of {quantization.activation_bits} bits; set "
            f"activation_bits: 8 in the quantize stage, or take {' and '.join(asked)} out of precisions"
        )
    if "int8" in asked and quantization is not None and quantization.weights_only:
        raise StageError(
            f"stages.{env.stage}: with weights_only nothing runs in integers; export codebook, not int8"
        )
    if "codebook" in asked and quantization is not None and not quantization.few_bits:
        raise StageError(
            f"stages.{env.stage}: a codebook needs weights of 4 bits or fewer; set weight_bits: 4 in the quantize stage, or take "
            "codebook out of precisions"
        )


def _write(role: Role, source: Network, config: Export, env: Env) -> dict[AnyArtifact, ArtifactResult]:
    """The artifacts of one network in all its precisions and shapes."""
    net = source.build()
    tail, outputs = env.task.tail(net, config)
    contract = env.task.contract(net, config)
    shapes = _shapes(config, contract, env)
    splits: list[Split] = [s for s in env.task.splits() if s != "train"]
    # with the graph's own limits, so that like is compared with like
    reference = replace(torch_predictor(net, env.task, env.device), contract=contract.of_network())
    torch_metrics = {s: env.task.evaluate(reference, s) for s in splits}
    artifacts: dict[AnyArtifact, ArtifactResult] = {}
    metric = env.task.metric
    for shape in shapes:
        example = torch.zeros(shape.golden.shape)
        base = to_onnx(net, example, outputs, config.opset, config.dynamic_batch, tail, shape.multiple)
        for precision in config.precisions:
            artifact = ArtifactId(role, precision, shape.kind)
            called = artifact.name
            graph, integers = _graph(base, precision, source)
            snr, worst = _parity(graph, shape, net, tail, precision, called)
            graph = env.task.finish(graph, config)
            path = env.out / f"{called}.onnx"
            inputs = contract.input.model_copy(update={"shape": (1, *shape.golden.shape[1:])})
            said = contract.changed(
                input=inputs.model_dump(),
                outputs=[o.name for o in graph.graph.output],
                precision=precision,
                dynamic_batch=config.dynamic_batch,
                dynamic_size=shape.multiple is not None,
            )
            write_artifact(path, graph, said)
            _write_golden(env.out / "golden" / f"{called}.npz", path, shape.golden)
            model = predictor(path)
            reached = {split: env.task.evaluate(model, split) for split in splits}
            artifacts[artifact] = ArtifactResult(
                file=path.name,
                bytes=path.stat().st_size,
                zipped_bytes=len(zlib.compress(path.read_bytes())),
                precision=precision,
                params=source.parameters,
                snr_db=snr,
                max_abs_error=worst,
                fusion=None if integers is None else integers.fusion,
                float_layers=None if integers is None else integers.float_layers,
                val=reached.get("val"),
                test=reached.get("test"),
                torch={split: torch_metrics[split][metric] for split in splits},
                drop_from_torch=torch_metrics["val"][metric] - reached["val"][metric],
            )
    return artifacts


def _shapes(config: Export, contract: Contract, env: Env) -> list[Shape]:
    """The shapes to export. Raises StageError for a tile that the network or the task cannot take."""
    golden = env.task.images("val", GOLDEN_IMAGES)[:1]
    multiple = contract.multiple
    shapes = [Shape(golden, multiple if config.dynamic_size else None)]
    if config.tile is None:
        return shapes
    place = f"stages.{env.stage}.tile {list(config.tile)}"
    if not contract.dynamic_size:
        raise StageError(f"{place}: this task does not process images in tiles; remove it")
    if any(side % multiple for side in config.tile):
        raise StageError(f"{place}: the network takes multiples of {multiple}; change it")
    height, width = config.tile
    missing = [(0, max(0, side - have)) for side, have in zip(config.tile, golden.shape[2:], strict=True)]
    tile = np.pad(golden, ((0, 0), (0, 0), *missing), mode="symmetric")[:, :, :height, :width]
    return [*shapes, Shape(np.ascontiguousarray(tile), None, "tile")]


@dataclass(frozen=True)
class Integers:
    """What an int8 graph runs in integers."""

    fusion: Fusion
    float_layers: tuple[str, ...]


def _graph(base: onnx.ModelProto, precision: str, source: Network) -> tuple[onnx.ModelProto, Integers | None]:
    """The graph in a precision, and of integers what runs in them."""
    graph = clone(base)
    if precision == "fp16":
        return to_fp16(graph), None
    if precision in INTEGERS:
        quantization = quantization_of(source)
        assert quantization is not None
        graph = quantization.graph(graph)
        graph = compact(palettized(graph) if precision == "codebook" else graph)
        kept = quantization.float_layers
        checked = fusion(graph, kept).model_copy(update={"wanted": wanted(base, kept)})
        return graph, Integers(checked, kept)
    return graph, None


def _parity(
    graph: onnx.ModelProto,
    shape: Shape,
    net: nn.Module,
    tail: Callable[[Any], Any] | None,
    precision: str,
    name: str,
) -> tuple[float, float]:
    """(signal-to-noise ratio in dB, largest error) of a graph's outputs against torch's, the worst of all outputs.

    Where any size goes, on half the image as well.

    Raises StageError when fp32 or fp16 are not the same network.
    """
    inputs = [shape.golden]
    if shape.multiple is not None:
        half = max(shape.multiple, shape.golden.shape[2] // 2 // shape.multiple * shape.multiple)
        inputs.append(np.ascontiguousarray(shape.golden[:, :, :half]))
    session = OnnxSession(graph.SerializeToString())
    ratios: list[float] = []
    worst = 0.0
    for images in inputs:
        with torch.no_grad():
            outputs = net(torch.as_tensor(images))
            outputs = outputs if tail is None else tail(outputs)
        expected = [e.numpy() for e in tensors_of(outputs)]
        for e, r in zip(expected, session.run({"images": images}), strict=True):
            ratios.append(round(snr_db(e, r), 2))
            worst = max(worst, float(np.abs(e - r).max()))
    least = LEAST_DB_TO_TORCH.get(precision)
    if least is not None and min(ratios) < least:
        raise StageError(
            f"{name}: its outputs are {min(ratios):.1f} dB from torch's, less than {least:g}; the export is wrong"
        )
    return min(ratios), worst


def _write_golden(path: Path, artifact: Path, images: np.ndarray) -> None:
    """Input and outputs of an artifact, to check a device with."""
    session = OnnxSession(artifact)
    buffer = io.BytesIO()
    outputs = dict(zip(session.outputs, session.run({"images": images}), strict=True))
    np.savez_compressed(buffer, allow_pickle=False, images=images, **outputs)
    write_atomic(path, buffer.getvalue())
