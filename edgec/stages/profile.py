"""The profile stage: latency of every artifact in its runtime, on every device that the recipe names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from edgec.bench.candidate import Candidate, Processor, TorchWay
from edgec.bench.files import Prepared, prepare_files
from edgec.bench.interleaved import raise_first
from edgec.bench.on_devices import measure_on_all
from edgec.core.errors import StageError
from edgec.core.network import Network
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.artifact_id import DENSE, ArtifactId
from edgec.core.results.profile import Conversion, ProfileResult
from edgec.env import Env
from edgec.recipe import Profile, TorchWays
from edgec.tasks.predictor import torch_predictor

MODEL = ArtifactId("model", "fp32")


def profile(config: Profile, network: Network, env: Env) -> tuple[Network, ProfileResult]:
    """Measure the artifacts of the export before this stage, and the networks in torch; nothing is changed.

    Raises Missing or StageError when nothing at all could be measured, or nothing on the first device.
    """
    candidates: list[Candidate] = []
    conversions: list[Conversion] = []
    for part in (_files(config, env), _in_torch(config, network, env)):
        candidates += part.candidates
        conversions += part.conversions
    artifacts = {candidate.artifact for candidate in candidates}
    base = next((artifact for artifact in (DENSE, MODEL) if artifact in artifacts), None)
    result = measure_on_all(candidates, config, env.events, env.stage, conversions, base)
    if result.first.device != config.devices[0]:
        raise_first(result.first.failures)  # gates are about the first device
    return network, result


def _files(config: Profile, env: Env) -> Prepared:
    """The exported artifacts in the runtimes that take files."""
    runtimes = [name for name in config.runtimes if name != "torch"]
    if not runtimes:
        return Prepared([], [])
    paths: Sequence[Path] = sorted(env.inputs.glob("*.onnx")) if env.inputs is not None else []
    if not paths:
        raise StageError(
            f"stages.{env.stage}: runtimes {', '.join(runtimes)} need artifacts, and nothing was exported; "
            "put an export stage before it, or set runtimes: [torch]"
        )
    return prepare_files(paths, runtimes, env.out, env.events, env=env)


def _in_torch(config: Profile, network: Network, env: Env) -> Prepared:
    """The network and the dense one in torch, on the CPU and, where the run uses it, on CUDA; with the accuracy of other
    precisions than fp32, which the stages before have reported.
    """
    prepared = Prepared([], [])
    if "torch" not in config.runtimes:
        return prepared
    networks = {MODEL: network} if env.dense.digest == network.digest else {DENSE: env.dense, MODEL: network}
    for artifact, source in networks.items():
        folder = env.scratch / "torch" / artifact.name
        source.save(folder)
        for precision in config.torch.precisions:
            accuracy = _accuracy(source, precision, env) if precision != "fp32" else None
            for way in _ways(config.torch, precision, env):
                prepared.candidates.append(
                    Candidate(artifact, way.runtime, precision, folder, open_batch=True, torch=way)
                )
                if accuracy is not None:
                    prepared.conversions.append(
                        Conversion(
                            artifact=artifact, runtime=way.runtime, precision=precision, metrics=accuracy
                        )
                    )
    return prepared


def _ways(ways: TorchWays, precision: str, env: Env) -> list[TorchWay]:
    shape = tuple(env.task.example().shape)
    here: tuple[Processor, ...] = ("cpu", "cuda") if env.device == "cuda" else ("cpu",)
    return [
        TorchWay(processor, mode, layout, precision, shape, env.allow_code)
        for mode, layout in product(ways.modes, ways.layouts)
        for processor in (("cuda",) if mode == "cuda_graph" else here)
    ]


def _accuracy(source: Network, precision: str, env: Env) -> Accuracy:
    """Of a network that computes in fp16, on the val split."""
    import torch

    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    predictor = torch_predictor(source.build(), env.task, env.device, dtype)
    return env.task.evaluate(predictor, "val")
