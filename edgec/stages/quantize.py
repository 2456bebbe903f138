"""The quantize stage: post-training quantization. The network keeps its float weights; what int8 needs beside them is
recorded as a surgery, from which the export makes the int8 graph, and on which the qad stage continues to train.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from edgec.core.contract.base import Contract
from edgec.core.errors import StageError
from edgec.core.grid import Range, Ranges
from edgec.core.network import Network
from edgec.core.norms import fold_norms
from edgec.core.patterns import check_patterns, matches
from edgec.core.predictor import Predictor
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.quantization import (
    Equalized,
    Int8Graph,
    LayerReturned,
    LayerSensitivity,
    LayerWeights,
    NeuralCompressor,
    QuantizeResult,
)
from edgec.env import Env
from edgec.onnx.export import INPUT, to_onnx, with_fast_mish
from edgec.onnx.graph import convolutions, weights_of
from edgec.onnx.parity import worst_snr_db
from edgec.onnx.session import OnnxSession
from edgec.pruning.cost import shapes_of, total
from edgec.quantization.bias import corrections
from edgec.quantization.calibration import calibrate, magnitudes
from edgec.quantization.equalize import equalized, factors
from edgec.quantization.integer_check import fusion, wanted
from edgec.quantization.placement import place_pairs, quantizable
from edgec.quantization.qdq_graph import insert_pairs
from edgec.quantization.sensitivity import outputs_on, sensitivity
from edgec.quantization.surgery import Quantization
from edgec.quantization.weights.buckets import levels_of
from edgec.quantization.weights.codebook import first_centroids, huffman_bits, share_bits
from edgec.quantization.weights.compact import compact
from edgec.quantization.weights.formats import EIGHT_BITS, UNIT, WeightFormat
from edgec.quantization.weights.palettize import palettized
from edgec.recipe import Export, Quantize
from edgec.tasks.predictor import torch_predictor
from edgec.tasks.protocol import Evaluation

RAW = Export(precisions=("fp32",), output="raw", dynamic_batch=True)
CODEBOOK_BITS = 4  # and fewer: weights lie on the centroids of a codebook
GRADIENT_BATCHES = 8  # that tell on which layers' weights the loss leans
BLOCK = 16  # channels that a convolution's kernel takes at a time
BINS = 64  # of the histograms of weights


def quantize(config: Quantize, network: Network, env: Env) -> tuple[Network, QuantizeResult]:
    """Calibrate, equalize channels where it helps, measure each layer's sensitivity, and return layers to float (those of few
    bits: to 8 bits) until the metric is kept.

    The result has the accuracy of the int8 graph in onnxruntime against float, the sensitivity of each layer, the fusion
    check, what cross-layer equalization brings, how weights are stored, and whether `max_drop` was kept within
    `max_float_layers`.
    """
    net = network.build()
    contract = env.task.contract(net)
    model = float_graph(net, env)
    fixed = _fixed(config, model, env)
    probe = env.task.images("val", config.sensitivity_images)
    calibrated = _Calibrated(model) if config.weights_only else _calibrated(config, model, net, probe, env)
    model, by_layer = calibrated.model, calibrated.factors
    layers = [n for n in quantizable(model) if n not in fixed]
    formats = _formats(config, model, net, layers, env)
    weights_alone = [*fixed, *layers] if config.weights_only else []
    # a small file is what few bits are for
    if config.weight_bits <= CODEBOOK_BITS and not config.weights_only:
        formats |= {layer: EIGHT_BITS for layer in fixed if layer in quantizable(model)}
    table = sensitivity(
        model, calibrated.ranges, probe, env.events.progress("sensitivity", env.stage), formats,
        weights_alone,
    )  # fmt: skip
    table = {layer: noise for layer, noise in table.items() if layer in layers or not config.weights_only}
    noisy = [n for n in layers if n not in formats and table[n] < config.min_sqnr_db]
    if noisy:
        env.events.note(
            f"{env.stage}: {', '.join(noisy)} stay{'s' * (len(noisy) == 1)} in float, below min_sqnr_db "
            f"{config.min_sqnr_db:g} alone", "info", env.stage,
        )  # fmt: skip
    fixed = [*fixed, *noisy]
    kept = tuple(weights_alone or fixed)
    quantization = Quantization(  # of `model`, whose channels are equalized already
        calibrated.ranges, kept, {}, formats, config.calibration, config.activation_bits
    )
    if config.bias_correction:
        images = env.task.images("train", config.images)
        quantization = replace(quantization, biases=corrections(model, formats, fixed, images, config.batch))
    costs = {s.name: total([s], {}, {}, BLOCK).padded_macs for s in shapes_of(net, env.task.example())}
    worst_first = by_worth(table, costs)
    reference = env.task.evaluate(torch_predictor(net, env.task, env.device), "val")
    queue = [name for name in worst_first if name not in fixed]
    alone = _metric_alone(quantization, model, contract, queue[: config.metric_layers], reference, env)
    tried = _return_layers(config, quantization, model, contract, queue, reference, env)
    best = tried[-1] if tried[-1].kept else max(tried, key=lambda t: t.reached[env.task.metric])
    final, graph = measured(best.found, model, contract, reference, env, best.reached)
    if not best.kept:
        limit = max_drop_of(config, env.task)
        env.events.note(
            f"{env.stage}: int8 loses {graph.drop:.4f} {env.task.metric}, more than max_drop {limit}, with "
            f"{len(tried) - 1} layers tried; raise max_float_layers, or use quantization-aware training (a qad stage)",
            "warning", env.stage,
        )  # fmt: skip
    returned = {n for n in formats if n not in best.found.formats}
    returned |= set(best.found.float_layers) - set(best.found.formats) | set(fixed)
    metric = env.task.metric
    result = QuantizeResult(
        final=final,
        graph=graph,
        max_drop_kept=best.kept,
        equalised=calibrated.equalized,
        tried=tuple(
            LayerReturned(
                float_layers=len(t.found.float_layers),
                layer=t.layer,
                metric=metric,
                reached=t.reached[metric],
            )
            for t in tried
        ),
        sensitivity=tuple(
            LayerSensitivity(
                layer=n,
                sqnr_db=round(table[n], 2),
                cost=costs.get(n),
                kept_float=n in returned,
                metric_drop=alone.get(n),
            )
            for n in table
        ),
    )
    return network.with_surgery(replace(best.found, factors=by_layer).surgery()), result


def float_graph(net: nn.Module, env: Env) -> onnx.ModelProto:
    """The float graph with the network's own outputs, for any batch size, and any image size where the task needs that.

    Raises StageError for a network without a convolution, or one that cannot be exported.
    """
    contract = env.task.contract(net)
    _, names = env.task.tail(net, RAW)
    model = to_onnx(
        net, env.task.example(), names, RAW.opset, dynamic_batch=True, size_multiple=contract.size_multiple
    )
    if not quantizable(model):
        raise StageError(f"{env.stage}: the network has no convolution")
    return model


def measured(
    found: Quantization, model: onnx.ModelProto, contract: Contract, reference: Accuracy, env: Env,
    reached: Accuracy | None = None,
) -> tuple[Accuracy, Int8Graph]:  # fmt: skip
    """The accuracy and further figures of the int8 graph of `model`: the drop from `reference`, size, fusion, weights.

    `reached`: its accuracy, where that was measured before.
    """
    graph = found.graph(model)
    if reached is None:
        reached = env.task.evaluate(_predictor(graph, contract), "val")
    metric = env.task.metric
    small = compact(palettized(graph) if found.few_bits else graph).SerializeToString()
    checked = fusion(graph, found.float_layers)
    return reached, Int8Graph(
        graph_bytes=len(small),
        graph_zipped_bytes=len(zlib.compress(small)),
        float=reference,
        drop=reference[metric] - reached[metric],
        fusion=checked.model_copy(update={"wanted": wanted(model, found.float_layers)}),
        weights=_stored_weights(model, found),
    )


def _metric_alone(
    found: Quantization, model: onnx.ModelProto, contract: Contract, layers: Sequence[str],
    reference: Accuracy, env: Env,
) -> dict[str, float]:  # fmt: skip
    """What each of the layers costs of the metric when it alone is quantized."""
    advance = env.events.progress("metric of single layers", env.stage)
    dropped: dict[str, float] = {}
    for index, layer in enumerate(layers):
        graph = insert_pairs(model, found.ranges, found.float_layers, [layer], found.formats)
        reached = env.task.evaluate(_predictor(graph, contract), "val")
        dropped[layer] = reference[env.task.metric] - reached[env.task.metric]
        advance(index + 1, len(layers))
    return dropped


def by_worth(table: Mapping[str, float], costs: Mapping[str, float]) -> list[str]:
    """Layers in the order in which they return to float: most noise taken away for the time (or bits) that it costs.

    `table`: signal-to-noise ratio in dB with the layer alone quantized; `costs`: padded multiply-accumulates.
    """
    return sorted(table, key=lambda name: -(10 ** (-table[name] / 10)) / max(costs[name], 1))


def max_drop_of(config: Quantize, task: Evaluation) -> float:
    """What the headline metric may lose, in its unit: the recipe's, or what is little for this task."""
    return task.metrics[0].small_drop if config.max_drop is None else config.max_drop


@dataclass(frozen=True)
class _Tried:
    found: Quantization
    layer: str | None  # the last that returned
    reached: Accuracy
    kept: bool  # the metric, to within max_drop


def _return_layers(
    config: Quantize, start: Quantization, model: onnx.ModelProto, contract: Contract, queue: Sequence[str],
    reference: Accuracy, env: Env,
) -> list[_Tried]:  # fmt: skip
    """Layer by layer back to float, or from few bits to 8, until the metric is kept: all that was tried."""
    tried: list[_Tried] = []
    found = start
    for layer in (None, *queue[: config.max_float_layers]):
        if layer is not None and layer in found.formats:
            found = replace(found, formats={n: f for n, f in found.formats.items() if n != layer})
        elif layer is not None:
            found = replace(found, float_layers=(*found.float_layers, layer))
        reached = env.task.evaluate(_predictor(found.graph(model), contract), "val")
        kept = reference[env.task.metric] - reached[env.task.metric] <= max_drop_of(config, env.task)
        tried.append(_Tried(found, layer, reached, kept))
        if kept:
            break
    return tried


def _fixed(config: Quantize, model: onnx.ModelProto, env: Env) -> list[str]:
    """The layers that the recipe keeps in float. Raises StageError for a pattern that matches none."""
    layers = list(convolutions(model))
    check_patterns({f"stages.{env.stage}.keep_float": config.keep_float}, layers, "convolution")
    return [name for name in layers if matches(name, config.keep_float)]


@dataclass(frozen=True)
class _Calibrated:
    model: onnx.ModelProto  # after cross-layer equalization, where it brings int8 closer to float
    ranges: Ranges = field(default_factory=dict[str, Range])
    factors: dict[str, Any] = field(default_factory=dict[str, Any])
    equalized: Equalized = field(default_factory=lambda: Equalized(used=False))


def _calibrated(
    config: Quantize, model: onnx.ModelProto, net: nn.Module, probe: np.ndarray, env: Env
) -> _Calibrated:
    """The graph and its ranges: after cross-layer equalization if int8 is then closer to float on `probe`.

    Neural Compressor's ranges belong to the channels as they are.
    """
    contract = env.task.contract(net)
    images = env.task.images("train", config.images)
    tensors = list(
        place_pairs(model).source
    )  # also those that only count once a layer before them stays in float
    by_layer = factors(model, magnitudes(model, tensors, images, config.batch))
    reference = outputs_on(model, probe)
    found: list[tuple[float, onnx.ModelProto, Ranges, dict[str, Any]]] = []
    ways: list[tuple[str, onnx.ModelProto, dict[str, Any]]] = [("calibrating", model, {})]
    tried: NeuralCompressor | None = None
    if config.backend == "onnxruntime":
        ways.append(("calibrating after cross-layer equalization", equalized(model, by_layer), by_layer))
    for what, graph, used in ways:
        ranges = calibrate(
            graph, tensors, images, config.calibration, config.percentile, config.batch,
            env.events.progress(what, env.stage), config.activation_bits,
        )  # fmt: skip
        if config.backend == "neural-compressor":
            theirs, tried = _tuned(config, net, model, tensors, images, env)
            ranges |= theirs
        if (known := contract.input.range) is not None:  # images of 8 bits: all 256 levels stay exact
            ranges[INPUT] = known
        noisy = outputs_on(insert_pairs(graph, ranges), probe)
        found.append((worst_snr_db(reference, noisy), graph, ranges, used))
    _, graph, ranges, used = max(found, key=lambda each: each[0])
    outcome = Equalized(
        used=bool(used),
        snr_db_before=round(found[0][0], 2),
        snr_db_after=round(found[-1][0], 2),
        neural_compressor=tried,
    )
    return _Calibrated(graph, ranges, used, outcome)


def _tuned(
    config: Quantize, net: nn.Module, model: onnx.ModelProto, tensors: Sequence[str], images: np.ndarray, env: Env
) -> tuple[Ranges, NeuralCompressor]:  # fmt: skip
    """The ranges of Neural Compressor, by tensor."""
    from edgec.quantization.neural_compressor import tuned

    example, contract, metric = env.task.example(), env.task.contract(net), env.task.metric

    def evaluate(run: Callable[[np.ndarray], list[np.ndarray]]) -> float:
        return env.task.evaluate(Predictor(run, contract), "val")[metric]

    folded = with_fast_mish(fold_norms(net, example))
    return tuned(
        folded,
        model,
        tensors,
        images,
        example,
        evaluate,
        max_drop_of(config, env.task),
        contract.size_multiple,
        config.batch,
    )


def _formats(
    config: Quantize, model: onnx.ModelProto, net: nn.Module, layers: Sequence[str], env: Env
) -> dict[str, WeightFormat]:
    """How weights are stored, by layer; layers with 8 bits are not named."""
    if config.weights_only and (config.bucket is not None or config.weight_bits > CODEBOOK_BITS):
        return {layer: WeightFormat(config.weight_bits, bucket=config.bucket) for layer in layers}
    if config.weight_bits == EIGHT_BITS.bits:
        return {}
    if config.weight_bits > CODEBOOK_BITS:
        return {layer: WeightFormat(config.weight_bits) for layer in layers}
    weights = weights_of(model, layers)
    bits = dict.fromkeys(layers, int(config.weight_bits))
    if config.average_bits is not None:
        sizes = {layer: weight.size for layer, weight in weights.items()}
        bits = share_bits(sizes, _gradients(net, layers, env), config.average_bits)
    formats: dict[str, WeightFormat] = {}
    for layer, weight in weights.items():
        points = first_centroids(torch.as_tensor(weight), 2 ** bits[layer], config.points)
        formats[layer] = WeightFormat(bits[layer], tuple(round(float(p) * UNIT) for p in points))
    return formats


def _gradients(net: nn.Module, layers: Sequence[str], env: Env) -> dict[str, float]:
    """Root mean square, over batches, of the gradient of the task's loss at a layer's weights, for one weight."""
    net = net.eval()
    squares = dict.fromkeys(layers, 0.0)
    count = 0
    with closing(env.task.batches(1, 1, env.seed)) as batches:
        for batch in islice(batches.epoch(0), GRADIENT_BATCHES):
            net.zero_grad()
            terms = env.task.losses(net(batch.images), batch, net)
            torch.autograd.backward(torch.stack(list(terms.values())).sum())
            count += 1
            for layer in layers:
                gradient = net.get_submodule(layer).weight.grad
                assert isinstance(gradient, Tensor)
                squares[layer] += float(gradient.square().mean())
    net.zero_grad()
    return {layer: (value / max(count, 1)) ** 0.5 for layer, value in squares.items()}


def _stored_weights(model: onnx.ModelProto, found: Quantization) -> tuple[LayerWeights, ...]:
    """How the weights of each integer layer are stored: bits, bits after Huffman coding, centroids and where weights lie."""
    rows: list[LayerWeights] = []
    layers = [n for n in quantizable(model) if n in found.formats or n not in set(found.float_layers)]
    for layer, weight in weights_of(model, layers).items():
        form = found.formats.get(layer, EIGHT_BITS)
        if form.bucket is not None:
            integers = levels_of(weight, form.bits, form.bucket)[0].reshape(-1)[: weight.size]
        else:
            integers = form.integers(weight, form.scale(weight))
        points = histogram = None
        if form.centroids is not None:
            relative = weight / (UNIT * form.scale(weight).reshape(-1, 1, 1, 1))
            points = tuple(p / UNIT for p in form.centroids)
            histogram = tuple(np.histogram(relative, BINS, (-1, 1))[0].tolist())
        bits = round(huffman_bits(integers) / weight.size, 3)
        rows.append(
            LayerWeights(
                layer=layer, count=weight.size, bits=form.bits, huffman_bits=bits, points=points,
                histogram=histogram,
            )
        )  # fmt: skip
    return tuple(rows)


def _predictor(graph: onnx.ModelProto, contract: Contract) -> Predictor:
    session = OnnxSession(graph.SerializeToString(), threads=2)
    return Predictor(lambda images: session.run({"images": images}), contract)
