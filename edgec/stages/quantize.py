"""The quantize stage: post-training int8. The network keeps its float weights; the ranges and the layers that stay
in float are recorded as a surgery, from which the export makes the int8 graph.
"""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Any

import onnx

from edgec.env import Env, Predictor, torch_predictor
from edgec.errors import StageError
from edgec.events import Progress
from edgec.network import Network, Surgery
from edgec.quantization.fusion import fusion, wanted
from edgec.quantization.qdq import convolutions, insert, place
from edgec.quantization.ranges import Ranges, calibrate
from edgec.quantization.sensitivity import sensitivity
from edgec.recipe import Export, Quantize
from edgec.runtimes.onnx_export import to_onnx
from edgec.runtimes.onnxruntime import OnnxSession

RAW = Export(precisions=("fp32",), output="raw", dynamic_batch=True)


def quantize(config: Quantize, network: Network, env: Env) -> tuple[Network, dict[str, Any]]:
    """Calibrate, measure each layer's sensitivity, and return layers to float until the metric is kept.

    Metrics: the accuracy of the int8 graph in onnxruntime against float, the sensitivity table, the fusion check, and
    whether `max_drop` was reached within `max_float_layers`.
    """
    net = network.build()
    _, names = env.task.tail(net, RAW)
    model = to_onnx(net, env.task.example(), names, RAW.opset, dynamic_batch=True)
    layers = list(convolutions(model))
    if not layers:
        raise StageError("quantize: the network has no convolution")
    idle = [p for p in config.keep_float if not any(fnmatch(name, p) for name in layers)]
    if idle:
        raise StageError(
            f"stages.{env.stage}.keep_float: {', '.join(idle)} names no convolution; there are {', '.join(layers[:8])}, ..."
        )
    fixed = [name for name in layers if any(fnmatch(name, pattern) for pattern in config.keep_float)]
    ranges = _ranges(config, model, env)
    probe = env.task.images("val", config.sensitivity_images)
    table = sensitivity(model, ranges, probe, lambda done, total: _tell(env, "sensitivity", done, total))

    contract = env.task.contract(net)
    metric = env.task.metric
    reference = env.task.evaluate(torch_predictor(net, env.task, env.device), "val")
    queue = [name for name in table if name not in fixed]
    kept, tried = list(fixed), []
    while True:
        graph = insert(model, ranges, kept)
        reached = env.task.evaluate(_predictor(graph, contract), "val")
        tried.append({"float_layers": len(kept), metric: reached[metric]})
        enough = reference[metric] - reached[metric] <= config.max_drop
        if enough or not queue or len(kept) - len(fixed) >= config.max_float_layers:
            break
        kept.append(queue.pop(0))
    if not enough:
        best = max(tried, key=lambda row: row[metric])
        kept = fixed + [n for n in table if n not in fixed][: best["float_layers"] - len(fixed)]
        graph = insert(model, ranges, kept)
        reached = env.task.evaluate(_predictor(graph, contract), "val")
        env.events.note(
            f"{env.stage}: int8 loses {reference[metric] - reached[metric]:.4f} {metric}, more than max_drop {config.max_drop}, "
            f"with {len(kept)} layers in float; raise max_float_layers, or train with quantization",
            "warning", env.stage,
        )  # fmt: skip
    changes = {
        "ranges": {n: list(r) for n, r in ranges.items()},
        "float_layers": kept,
        "method": config.calibration,
    }
    fused = fusion(graph, kept)
    metrics = {
        "final": reached,
        "float": reference,
        "drop": reference[metric] - reached[metric],
        "max_drop_kept": enough,
        "tried": tried,
        "sensitivity": [
            {"layer": n, "sqnr_db": round(db, 2), "kept_float": n in kept} for n, db in table.items()
        ],
        "fusion": fused.to_json() | {"wanted": wanted(model, kept)},
    }
    return network.with_surgery(Surgery("quantize", changes)), metrics


def _ranges(config: Quantize, model: onnx.ModelProto, env: Env) -> Ranges:
    images = env.task.images("train", config.images)
    tensors = list(place(model).source)  # also those that only count once a layer before them stays in float
    return calibrate(
        model, tensors, images, config.calibration, config.percentile, config.batch,
        lambda done, total: _tell(env, "calibrating", done, total),
    )  # fmt: skip


def _tell(env: Env, what: str, done: int, total: int) -> None:
    env.events.emit(Progress(f"{env.stage}: {what}", done, total))


def _predictor(graph: onnx.ModelProto, contract: dict[str, Any]) -> Predictor:
    session = OnnxSession(graph.SerializeToString(), threads=2)
    return Predictor(lambda images: session.run({"images": images}), contract)
