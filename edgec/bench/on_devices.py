"""Candidates measured on one device after the other."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.bench.candidate import Candidate
from edgec.bench.interleaved import measure_on, raise_first
from edgec.bench.modules import Modules, modules_in, with_layers, with_modules
from edgec.core.errors import EdgecError, Missing
from edgec.core.events import Events
from edgec.core.results.artifact_id import AnyArtifact
from edgec.core.results.fusion import Fusion
from edgec.core.results.profile import ONNXRUNTIME, Conversion, DeviceFigures, Failure, ProfileResult
from edgec.devices.inventory import open_devices
from edgec.onnx.proto import load_model
from edgec.quantization.integer_check import fusion
from edgec.recipe import Profile


def measure_on_all(
    candidates: Sequence[Candidate], config: Profile, events: Events, stage: str,
    conversions: Sequence[Conversion] = (), base: AnyArtifact | None = None,
) -> ProfileResult:  # fmt: skip
    """The figures of `measure_on` for each of `config.devices`, in their order.

    Refused conversions are failures of the first device, as is a device that gives nothing. Raises Missing or StageError when
    none gives anything.
    """
    refused = [
        Failure(artifact=c.artifact, runtime=c.runtime, kind=c.kind or "failed", error=c.reason)
        for c in conversions
        if not c.passed
    ]
    measured: list[DeviceFigures] = []
    lost: list[Failure] = []
    for device in open_devices(config.devices):
        try:
            here = [c for c in candidates if device.name == "local" or c.torch is None]
            with device.lease(events):
                measured.append(
                    measure_on(device, here, config, events, stage, base, () if measured else refused)
                )
        except EdgecError as error:
            kind = "missing" if isinstance(error, Missing) else "failed"
            lost.append(Failure(device=device.name, kind=kind, error=str(error)))
            events.note(str(error), "error", stage)
        finally:
            device.close()
    if not measured:
        raise_first(lost)
    files = {c.artifact: c.path for c in candidates if c.path.suffix == ".onnx"}
    modules: dict[AnyArtifact, Modules] = {artifact: modules_in(file) for artifact, file in files.items()}
    first, *others = (_with_modules(figures, modules) for figures in measured)
    first = first.model_copy(update={"failures": (*first.failures, *lost)})
    return ProfileResult(
        devices=(first, *others),
        conversions=tuple(conversions),
        fusion=_fusions(candidates, first, modules),
    )


def _with_modules(figures: DeviceFigures, modules: dict[AnyArtifact, Modules]) -> DeviceFigures:
    operators = tuple(
        times.model_copy(update={"operators": with_layers(times.operators, modules.get(times.artifact, {}))})
        for times in figures.operators
    )
    return figures.model_copy(update={"operators": operators})


def _fusions(
    candidates: Sequence[Candidate], first: DeviceFigures, modules: dict[AnyArtifact, Modules]
) -> dict[AnyArtifact, Fusion]:
    """What onnxruntime makes of each int8 file that was measured."""
    measured = {cell.artifact for cell in first.cells}
    return {
        c.artifact: with_modules(fusion(load_model(c.path), ()), modules.get(c.artifact, {}))
        for c in candidates
        if c.precision == "int8" and c.runtime == ONNXRUNTIME and c.artifact in measured
    }
