"""The qad stage: quantization-aware distillation of what the quantize stage has set up.

The network trains as its int8 graph will compute: batch norms folded, weights and activations rounded where integers will
round them, with a float network as the teacher. What comes out is exported and measured like any quantized network.
"""

from __future__ import annotations

from dataclasses import replace

import onnx
import torch
from torch import Tensor, nn

from edgec.core.errors import StageError
from edgec.core.network import Network
from edgec.core.norms import folded_norms
from edgec.core.outputs import tensors_of
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.quantization import Parity, QatResult
from edgec.core.surgery import FoldNorms
from edgec.core.taps import tapped
from edgec.core.typed_torch import norm
from edgec.env import Env
from edgec.onnx.export import with_fast_mish
from edgec.onnx.graph import initializers
from edgec.onnx.parity import worst_snr_db
from edgec.onnx.session import OnnxSession
from edgec.quantization.equalize import equalized
from edgec.quantization.qat.network import qat_network, tap_name, write_back
from edgec.quantization.surgery import quantization_of
from edgec.recipe import QuantizationAware
from edgec.stages.distill import (
    check_knowledge,
    comparisons_of,
    distillation_loss,
    make_connectors,
    teacher_of,
)
from edgec.stages.quantize import float_graph, measured
from edgec.tasks.predictor import torch_predictor
from edgec.training.fit import fit
from edgec.training.schedules import Position

PARITY_IMAGES = 2


def qad(config: QuantizationAware, network: Network, env: Env) -> tuple[Network, QatResult]:
    """Train a quantized network from a teacher, with simulated rounding (QAT).

    The result has the figures of training (measured through fake quantizers, in torch), and of the int8 graph in
    onnxruntime. Raises StageError without a quantize stage before it, or when the network cannot be traced.
    """
    before = quantization_of(network)
    if before is None:
        raise StageError(f"stages.{env.stage}: quantization-aware training needs a quantize stage before it")
    before = replace(before, biases={})  # corrections are for biases that do not train
    teacher, digest = teacher_of(config, env)
    example = env.task.example()
    start = network.build()
    plain, folded = folded_norms(start, example)
    if folded:
        network = network.with_surgery(FoldNorms(folded), plain)
    model = equalized(float_graph(plain, env), before.factors)
    net = network.build()
    _load(net, model)
    comparisons = comparisons_of(config, net, teacher, env)
    connectors = make_connectors(comparisons, net, teacher, env)
    taps = _channel_factors(plain, net, [pair.student for each in comparisons for pair in each.pairs], env)
    student = qat_network(
        with_fast_mish(network.with_weights(net).build()), model, before.ranges, before.float_layers, example,
        formats=before.formats, activation_bits=before.activation_bits, ranges=config.ranges,
        learn_centroids=config.learn_points, taps=taps,
    )  # fmt: skip
    check_knowledge(comparisons, student, teacher, env)
    if not config.train_weights:
        for name, parameter in student.graph.named_parameters():
            parameter.requires_grad_(name not in dict(net.named_parameters()))
    inside = [
        replace(each, pairs=[replace(pair, student=f"graph.{tap_name(pair.student)}") for pair in each.pairs])
        for each in comparisons
    ]

    def freeze(at: Position) -> None:
        if at.fraction >= config.freeze:
            for _, quantizer in student.activations():
                quantizer.freeze()

    with distillation_loss(config, student, [teacher], inside, connectors, env) as loss:
        helpers = connectors if len(connectors) else None
        result = fit(student, loss, config, env, after_backward=freeze, helpers=helpers)
    ranges, formats = write_back(student, net)
    network = network.with_weights(net)
    after = replace(before, ranges={**before.ranges, **ranges}, formats=formats, factors={})
    reference = env.task.evaluate(torch_predictor(start, env.task, env.device), "val")
    trained = float_graph(net, env)
    final, graph = measured(after, trained, env.task.contract(net), reference, env)
    in_torch = result.final or Accuracy()
    measurements = QatResult.of(
        result.model_copy(update={"final": final}), teacher=digest, graph=graph, in_torch=in_torch,
        parity=_parity(student, after.graph(trained), env), only_in_integers=tuple(student.unseen),
    )  # fmt: skip
    return network.with_surgery(after.surgery()), measurements


def _load(net: nn.Module, model: onnx.ModelProto) -> None:
    """Give a network the weights that a graph holds under its names, in place."""
    stored = initializers(model)
    state = net.state_dict()
    for name, tensor in state.items():
        if name in stored and stored[name].shape == tuple(tensor.shape):
            state[name] = torch.as_tensor(stored[name].copy())
    net.load_state_dict(state)


def _parity(student: nn.Module, graph: onnx.ModelProto, env: Env) -> Parity:
    """How near the int8 graph in onnxruntime is to what was trained, in dB: as written, and as the runtime optimizes it.

    Not endless: sums of floats fall on one or the other side of a level, and one step here is many in later layers.
    """
    images = env.task.images("val", PARITY_IMAGES)
    with torch.no_grad():
        outputs = student.eval().cpu()(torch.as_tensor(images))
    trained = [o.numpy() for o in tensors_of(outputs)]
    data = graph.SerializeToString()

    def snr_db(optimize: bool) -> float:
        reached = OnnxSession(data, optimize=optimize).run({"images": images})
        return round(worst_snr_db(trained, reached), 2)

    return Parity(as_written_db=snr_db(False), optimised_db=snr_db(True))


def _channel_factors(
    plain: nn.Module, equal: nn.Module, names: list[str], env: Env
) -> dict[str, Tensor | None]:
    """By how much cross-layer equalization scaled the channels of tapped modules; None where it did not."""
    probe = torch.rand(env.task.example().shape, generator=torch.Generator().manual_seed(0))
    seen: list[dict[str, Tensor]] = []
    for net in (plain, equal):
        with torch.no_grad(), tapped(net, names) as features:
            net(probe)
            seen.append({name: _sizes(value) for name, value in features.items()})
    found: dict[str, Tensor | None] = {}
    for name in dict.fromkeys(names):
        before, after = seen[0][name], seen[1][name]
        factors = torch.where(before > 0, after / before.clamp(min=1e-12), 1.0)
        found[name] = None if torch.allclose(factors, torch.ones(()), rtol=1e-3) else factors
    return found


def _sizes(value: Tensor) -> Tensor:
    """The norm of each channel."""
    return norm(value.movedim(1, 0).flatten(1), 1)
