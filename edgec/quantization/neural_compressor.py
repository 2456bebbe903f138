"""Calibration by Intel Neural Compressor, with its accuracy-driven tuning: it tries observers and keeps the best network.

Its own export leaves most convolutions in float in onnxruntime, since pairs stand at their inputs alone. So its ranges are
taken over to the pairs of `place_pairs`: the tensors of both are recognized by their values.
"""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, fx, nn

from edgec.core.errors import Missing
from edgec.core.grid import Grid, Range, Ranges
from edgec.core.outputs import tensors_of
from edgec.core.results.quantization import NeuralCompressor, ObserverTried
from edgec.onnx.export import free_sizes
from edgec.quantization.calibration import values_of
from edgec.quantization.qat.matching import Values, operators_of, same
from edgec.quantization.tensor_keys import keys_of

OBSERVERS = ("minmax", "kl")  # moving average of the extremes; histogram
Evaluate = Callable[[Callable[[np.ndarray], list[np.ndarray]]], float]


def tuned(
    net: nn.Module, model: onnx.ModelProto, tensors: Sequence[str], images: np.ndarray, example: Tensor,
    evaluate: Evaluate, max_drop: float, size_multiple: int | None, batch: int = 16,
) -> tuple[Ranges, NeuralCompressor]:  # fmt: skip
    """Ranges of those of `tensors` that it observes, by key, and what it tried: observers and the metric of each.

    `net` has its batch norms folded, `model` is its float graph; `evaluate` gives the metric of a network. Raises Missing
    when neural-compressor is not installed.
    """
    inputs = (example.repeat(2, 1, 1, 1),)
    with _quietly():
        try:
            theirs: Any = import_module("neural_compressor.torch.quantization")
            traced = import_module("neural_compressor.torch.export").export(
                net.eval(), inputs, dynamic_shapes=free_sizes(True, size_multiple)
            )
        except ImportError as error:
            raise Missing(
                f"neural-compressor is not installed ({error}); pip install 'edgec[neural-compressor]'"
            ) from error
        found: list[Ranges] = []
        scores: list[float] = []

        def calibrate(observed: fx.GraphModule) -> None:
            with torch.no_grad():
                for start in range(0, len(images), batch):
                    observed(torch.as_tensor(images[start : start + batch]))
            found.append(
                _ranges(observed, model, tensors, example)
            )  # now: converting takes the observers out

        def measure(made: nn.Module) -> float:
            def run(part: np.ndarray) -> list[np.ndarray]:
                with torch.no_grad():
                    outputs = made(torch.as_tensor(part))
                return [o.numpy() for o in tensors_of(outputs)]

            scores.append(evaluate(run))
            return scores[-1]

        configs = [theirs.INT8StaticQuantConfig(act_algo=name) for name in OBSERVERS]
        theirs.autotune(
            traced, theirs.TuningConfig(config_set=configs, tolerable_loss=max_drop, max_trials=len(configs)),
            eval_fn=measure, run_fn=calibrate, example_inputs=inputs,
        )  # fmt: skip
    scores = scores[-len(found) :]  # before them: the float network
    best = int(np.argmax(scores))
    tried = tuple(ObserverTried(observer=name, metric=s) for name, s in zip(OBSERVERS, scores, strict=False))
    return found[best], NeuralCompressor(tried=tried, observer=OBSERVERS[best], ranges=len(found[best]))


def _ranges(
    observed: fx.GraphModule, model: onnx.ModelProto, tensors: Sequence[str], example: Tensor
) -> Ranges:
    """The ranges that the observers of a prepared network measured, by the keys of the same tensors in the graph."""
    reached: dict[str, Range] = {}  # by node
    for node in observed.graph.nodes:
        observer: Any = observed.get_submodule(str(node.target)) if node.op == "call_module" else None
        if not hasattr(observer, "calculate_qparams") or node.args[0].op == "get_attr":
            continue
        scale, zero = (float(value) for value in observer.calculate_qparams())
        reached[node.args[0].name] = Grid(scale, int(zero)).range
    probe = torch.rand(example.repeat(2, 1, 1, 1).shape, generator=torch.Generator().manual_seed(0))
    values = [
        (node, value) for node, value in Values(copy.deepcopy(observed)).of(probe) if node.name in reached
    ]
    keys, operators = keys_of(model), operators_of(model)
    ranges: dict[str, Range] = {}
    for tensor, value in values_of(model, list(tensors), probe.numpy()).items():
        node = same(values, value, operators.get(tensor))
        if node is not None:
            ranges[keys.get(tensor, tensor)] = reached[node.name]
    return ranges


@contextmanager
def _quietly() -> Generator[None, None, None]:
    """It and what it stands on log and warn of every step, and start to when they are imported."""
    level = os.environ.get("LOGLEVEL")
    os.environ["LOGLEVEL"] = level or "ERROR"
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        if level is None:
            del os.environ["LOGLEVEL"]
