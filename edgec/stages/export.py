"""The export stage: ONNX artifacts with contract and golden files, each measured in onnxruntime after it is written."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from edgec.env import Env, Split, torch_predictor
from edgec.errors import StageError
from edgec.files import write_atomic
from edgec.network import Network
from edgec.quantization.fusion import fusion, wanted
from edgec.quantization.qdq import insert
from edgec.recipe import Export
from edgec.runtimes.artifact import predictor, write_artifact
from edgec.runtimes.onnx_export import snr_db, to_fp16, to_onnx
from edgec.runtimes.onnxruntime import OnnxSession

GOLDEN_IMAGES = 2
LEAST_DB = {"fp32": 70.0, "fp16": 25.0}  # against torch; below it the graph computes something else


def export(config: Export, network: Network, env: Env) -> tuple[Network, dict[str, Any]]:
    """Write `model.<precision>.onnx` (and `dense.fp32.onnx`) into env.out.

    Metrics, by artifact: file, bytes, precision, parameters, accuracy in onnxruntime on each split, the drop from the torch
    network it came from, signal-to-noise ratio, fusion. Raises StageError when an artifact's outputs are not torch's.
    """
    if "int8" in config.precisions and network.surgery("quantize") is None:
        raise StageError(
            f"stages.{env.stage}: int8 needs a quantize stage before it; add one, or take int8 off precisions"
        )
    artifacts: dict[str, Any] = {}
    jobs: list[tuple[str, Network, tuple[str, ...]]] = [("model", network, config.precisions)]
    if config.dense and env.dense.digest != network.digest:
        jobs.insert(0, ("dense", env.dense, ("fp32",)))
    for name, source, precisions in jobs:
        artifacts |= _write(name, source, precisions, config, env)
    final = next(
        (artifacts[f"model.{p}"]["val"] for p in ("int8", "fp32", "fp16") if f"model.{p}" in artifacts), {}
    )
    return network, {"artifacts": artifacts, "final": final}


def _write(
    name: str, source: Network, precisions: tuple[str, ...], config: Export, env: Env
) -> dict[str, Any]:
    """The artifacts of one network in several precisions."""
    net = source.build()
    tail, outputs = env.task.tail(net, config)
    base = to_onnx(net, env.task.example(), outputs, config.opset, config.dynamic_batch, tail)
    splits: list[Split] = [s for s in env.task.splits() if s != "train"]
    # a graph that suppresses by itself gives no box under its threshold: compare like with like
    cut = {"score_threshold": config.score_threshold} if config.output == "boxes" else {}
    reference = torch_predictor(net, env.task, env.device)
    reference = replace(reference, contract={**reference.contract, **cut})
    torch_metrics = {s: env.task.evaluate(reference, s) for s in splits}
    net = net.cpu()  # evaluating took it to the device
    golden = env.task.images("val", GOLDEN_IMAGES)[:1]
    with torch.no_grad():
        expected = net(torch.from_numpy(golden))
        expected = expected if tail is None else tail(expected)
    expected = [e.numpy() for e in ([expected] if isinstance(expected, torch.Tensor) else expected)]
    found: dict[str, Any] = {}
    for precision in precisions:
        graph, details = _graph(base, precision, source)
        figures = _parity(graph, golden, expected, precision, f"{name}.{precision}", env)
        graph = env.task.finish(graph, config)
        contract = env.task.contract(net) | {
            "output": config.output,
            "outputs": [o.name for o in graph.graph.output],
            "precision": precision,
            "dynamic_batch": config.dynamic_batch,
            **cut,
        }
        path = env.out / f"{name}.{precision}.onnx"
        write_artifact(path, graph, contract)
        _write_golden(env.out / "golden" / f"{name}.{precision}.npz", path, golden)
        entry: dict[str, Any] = {
            "file": path.name,
            "bytes": path.stat().st_size,
            "precision": precision,
            "params": source.parameters,
            **figures,
            **details,
        }
        model = predictor(path)
        for split in splits:
            entry[split] = env.task.evaluate(model, split)
        metric = env.task.metric
        entry["torch"] = {split: torch_metrics[split][metric] for split in splits}
        entry["drop_from_torch"] = torch_metrics["val"][metric] - entry["val"][metric]
        found[f"{name}.{precision}"] = entry
    return found


def _graph(base: onnx.ModelProto, precision: str, source: Network) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The graph in a precision, and what is to be said of it."""
    graph = onnx.ModelProto()
    graph.CopyFrom(base)
    if precision == "fp16":
        return to_fp16(graph), {}
    if precision == "int8":
        surgery = source.surgery("quantize")
        assert surgery is not None
        kept = list(surgery.changes["float_layers"])
        ranges = {n: (float(r[0]), float(r[1])) for n, r in surgery.changes["ranges"].items()}
        graph = insert(graph, ranges, kept)
        return graph, {
            "fusion": fusion(graph, kept).to_json() | {"wanted": wanted(base, kept)},
            "float_layers": kept,
        }
    return graph, {}


def _parity(
    graph: onnx.ModelProto,
    golden: np.ndarray,
    expected: list[np.ndarray],
    precision: str,
    name: str,
    env: Env,
) -> dict[str, Any]:
    """Compare a graph's outputs with torch's. Raises StageError when fp32 or fp16 are not the same network."""
    reached = OnnxSession(graph.SerializeToString()).run({"images": golden})
    ratios = [round(snr_db(e, r), 2) for e, r in zip(expected, reached, strict=True)]
    least = LEAST_DB.get(precision)
    if least is not None and min(ratios) < least:
        raise StageError(
            f"{name}: its outputs are {min(ratios):.1f} dB from torch's, less than {least:g}; the export is wrong"
        )
    worst = max(float(np.abs(e - r).max()) for e, r in zip(expected, reached, strict=True))
    return {"snr_db": min(ratios), "max_abs_error": worst}


def _write_golden(path: Path, artifact: Path, images: np.ndarray) -> None:
    """Input and outputs of an artifact, to check a device with."""
    session = OnnxSession(artifact)
    buffer = io.BytesIO()
    outputs = dict(zip(session.outputs, session.run({"images": images}), strict=True))
    np.savez_compressed(buffer, allow_pickle=False, images=images, **outputs)
    write_atomic(path, buffer.getvalue())
