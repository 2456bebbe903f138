"""The quantize stage: post-training int8. The network keeps its float weights; the ranges, the channels' factors and
the layers that stay in float are recorded as a surgery, from which the export makes the int8 graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any

import numpy as np
import onnx

from edgec.env import Env, Predictor, torch_predictor
from edgec.errors import StageError
from edgec.events import Progress
from edgec.network import Network, Surgery
from edgec.quantization.equalise import equalised, factors
from edgec.quantization.fusion import fusion, wanted
from edgec.quantization.qdq import convolutions, insert, place, quantizable
from edgec.quantization.ranges import Ranges, calibrate, magnitudes
from edgec.quantization.sensitivity import outputs_on, sensitivity
from edgec.recipe import Export, Quantize
from edgec.runtimes.onnx_export import INPUT, snr_db, to_onnx
from edgec.runtimes.onnxruntime import OnnxSession

RAW = Export(precisions=("fp32",), output="raw", dynamic_batch=True)


def quantize(config: Quantize, network: Network, env: Env) -> tuple[Network, dict[str, Any]]:
    """Calibrate, equalise channels where it helps, measure each layer's sensitivity, and return layers to float until
    the metric is kept.

    Metrics: the accuracy of the int8 graph in onnxruntime against float, the sensitivity table, the fusion check, what
    equal channels bring, and whether `max_drop` was reached within `max_float_layers`.
    """
    net = network.build()
    contract = env.task.contract(net)
    _, names = env.task.tail(net, RAW)
    multiple = contract.get("multiple", 1) if env.task.any_size else None
    model = to_onnx(net, env.task.example(), names, RAW.opset, dynamic_batch=True, size_multiple=multiple)
    layers = list(convolutions(model))
    if not quantizable(model):
        raise StageError("quantize: the network has no convolution")
    idle = [p for p in config.keep_float if not any(fnmatch(name, p) for name in layers)]
    if idle:
        raise StageError(
            f"stages.{env.stage}.keep_float: {', '.join(idle)} names no convolution; there are {', '.join(layers[:8])}, ..."
        )
    fixed = [name for name in layers if any(fnmatch(name, pattern) for pattern in config.keep_float)]
    probe = env.task.images("val", config.sensitivity_images)
    model, ranges, by_layer, snr = _calibrated(config, model, contract, probe, env)
    table = sensitivity(model, ranges, probe, lambda done, total: _tell(env, "sensitivity", done, total))

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
        "factors": by_layer,
        "float_layers": kept,
        "method": config.calibration,
    }
    fused = fusion(graph, kept)
    metrics = {
        "final": reached,
        "float": reference,
        "drop": reference[metric] - reached[metric],
        "max_drop_kept": enough,
        "equalised": {"used": bool(by_layer), **snr},
        "tried": tried,
        "sensitivity": [
            {"layer": n, "sqnr_db": round(db, 2), "kept_float": n in kept} for n, db in table.items()
        ],
        "fusion": fused.to_json() | {"wanted": wanted(model, kept)},
    }
    return network.with_surgery(Surgery("quantize", changes)), metrics


def _calibrated(
    config: Quantize, model: onnx.ModelProto, contract: Mapping[str, Any], probe: np.ndarray, env: Env
) -> tuple[onnx.ModelProto, Ranges, dict[str, Any], dict[str, float]]:
    """The graph, its ranges and its channels' factors: with equal channels if int8 is then nearer to float on `probe`.

    With them, the signal-to-noise ratios in dB without and with equal channels.
    """
    images = env.task.images("train", config.images)
    tensors = list(place(model).source)  # also those that only count once a layer before them stays in float
    by_layer = factors(model, magnitudes(model, tensors, images, config.batch))
    reference = outputs_on(model, probe)
    found: list[tuple[float, onnx.ModelProto, Ranges, dict[str, Any]]] = []
    for what, graph, used in (
        ("calibrating", model, {}),
        ("calibrating equal channels", equalised(model, by_layer), by_layer),
    ):
        ranges = calibrate(
            graph, tensors, images, config.calibration, config.percentile, config.batch,
            lambda done, total, what=what: _tell(env, what, done, total),
        )  # fmt: skip
        if "scale" in contract["input"]:  # images of 8 bits, whose range is known: no rounding at all
            ranges[INPUT] = (0.0, 255 * contract["input"]["scale"])
        noisy = outputs_on(insert(graph, ranges), probe)
        snr = min(snr_db(a, b) for a, b in zip(reference, noisy, strict=True))
        found.append((snr, graph, ranges, used))
    _, graph, ranges, used = max(found, key=lambda each: each[0])
    told = {"snr_db_before": round(found[0][0], 2), "snr_db_after": round(found[1][0], 2)}
    return graph, ranges, used, told


def _tell(env: Env, what: str, done: int, total: int) -> None:
    env.events.emit(Progress(f"{env.stage}: {what}", done, total))


def _predictor(graph: onnx.ModelProto, contract: dict[str, Any]) -> Predictor:
    session = OnnxSession(graph.SerializeToString(), threads=2)
    return Predictor(lambda images: session.run({"images": images}), contract)
