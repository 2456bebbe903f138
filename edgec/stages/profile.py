"""The profile stage: latency of every artifact in its runtime, on every device that the recipe names."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgec.bench.conversions import Conversion, conversions
from edgec.bench.operators import layer_name, modules_of
from edgec.bench.rounds import DENSE, Subject, measure_on, raise_first
from edgec.core.errors import EdgecError, Missing, StageError
from edgec.core.events import Events
from edgec.core.network import Network
from edgec.core.runtimes import RUNTIMES
from edgec.devices.inventory import open_devices
from edgec.env import Env
from edgec.onnx.files import read_graph
from edgec.quantization.integer_check import fusion
from edgec.recipe import Profile, TorchWays
from edgec.tasks.predictor import torch_predictor

INTEGER_OPERATORS = ("QuantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger")


def profile(config: Profile, network: Network, env: Env) -> tuple[Network, dict[str, Any]]:
    """Measure the artifacts of the export before this stage, and the networks in torch; nothing is changed.

    Metrics: see `profile_subjects`. Raises Missing or StageError when nothing at all could be measured.
    """
    subjects: list[Subject] = []
    made: list[Conversion] = []
    files = [name for name in config.runtimes if name != "torch"]
    if files:
        paths = sorted(env.inputs.glob("*.onnx")) if env.inputs is not None else []
        if not paths:
            raise StageError(
                f"stages.{env.stage}: runtimes {', '.join(files)} need artifacts, and nothing was exported; "
                "put an export stage before it, or set runtimes: [torch]"
            )
        subjects, made = file_subjects(paths, files, env.out, env.events, env=env)
    if "torch" in config.runtimes:
        in_torch, told = torch_subjects(config.torch, network, env)
        subjects, made = subjects + in_torch, made + told
    names = [subject.artifact for subject in subjects]
    base = next((name for name in (DENSE, "model.fp32") if name in names), None)
    figures = profile_subjects(subjects, config, env.events, env.stage, made, base)
    if figures["device"] != config.devices[0]:
        raise_first(figures["failures"])  # gates are about the first device
    return network, figures


def profile_artifacts(
    paths: Sequence[Path],
    config: Profile,
    events: Events,
    shapes: Mapping[str, Sequence[int]] | None = None,
    against: Path | None = None,
) -> dict[str, Any]:
    """The figures of any ONNX files, also ones that edgec did not make, in all runtimes but torch.

    Sizes that a file leaves open are 1, unless `shapes` gives the input's, by name. `against` is one of `paths`, which the
    others are held against.
    """
    runtimes = [name for name in config.runtimes if name != "torch"]
    if not runtimes:
        raise StageError("an artifact cannot be profiled in torch; take onnxruntime")
    extra = {"shapes": {name: list(shape) for name, shape in (shapes or {}).items()}}
    with tempfile.TemporaryDirectory(prefix="edgec-profile-") as folder:
        subjects, made = file_subjects(paths, runtimes, Path(folder), events, extra)
        base = next((s.artifact for s in subjects if against and s.place == against.absolute()), None)
        return profile_subjects(subjects, config, events, "profile", made, base)


def file_subjects(
    paths: Sequence[Path], runtimes: Sequence[str], out: Path, events: Events,
    extra: Mapping[str, Any] | None = None, env: Env | None = None,
) -> tuple[list[Subject], list[Conversion]]:  # fmt: skip
    """The subjects of ONNX files in all runtimes; for those with files of their own, converted and checked in `out`."""
    own = [name for name in runtimes if RUNTIMES.row(name).converted]
    others = [name for name in runtimes if not RUNTIMES.row(name).converted]
    plain = subjects_of(paths, others or ["onnxruntime"], extra)
    if not own:
        return plain, []
    there = {s.artifact: s for s in plain if s.place.is_file()}
    places = {name: s.place for name, s in there.items()}
    precisions = {name: s.precision for name, s in there.items()}
    made = conversions(places, precisions, own, out, events, env, (extra or {}).get("shapes"))
    subjects = [
        Subject(
            m.artifact,
            m.runtime,
            m.precision,
            m.folder,
            extra={"golden": str(m.golden), **RUNTIMES.row(m.runtime).job()},
        )
        for m in made
        if not m.reason
    ]
    return (plain if others else []) + subjects, made


def subjects_of(
    paths: Sequence[Path], runtimes: Sequence[str], extra: Mapping[str, Any] | None = None
) -> list[Subject]:
    """The subjects of ONNX files: dense first, each path once, equal names told apart by folder."""
    unique = list(dict.fromkeys(path.absolute() for path in paths))
    unique.sort(key=lambda path: path.stem != DENSE)
    stems = [path.stem for path in unique]
    names = [path.stem if stems.count(path.stem) == 1 else str(path.with_suffix("")) for path in unique]
    subjects: list[Subject] = []
    for path, name in zip(unique, names, strict=True):
        precision, open_batch = graph_of(path)
        golden = path.parent / "golden" / f"{path.stem}.npz"
        job = {**(extra or {}), **({"golden": str(golden)} if golden.is_file() else {})}
        subjects += [
            Subject(name, runtime, precision, path, open_batch=open_batch, extra=job) for runtime in runtimes
        ]
    return subjects


def graph_of(path: Path) -> tuple[str, bool]:
    """(precision, whether any batch goes) of a file; "unknown" when it cannot be read, which the measurement explains."""
    try:
        graph = read_graph(path).graph
    except StageError:
        return "unknown", False
    held = {tensor.name for tensor in graph.initializer}
    inputs = [v.type.tensor_type.shape.dim for v in graph.input if v.name not in held]
    return precision_of(graph), all(len(dims) > 0 and dims[0].dim_value == 0 for dims in inputs)


def precision_of(graph: onnx.GraphProto) -> str:
    """int8, fp16 or fp32."""
    if any(node.op_type in INTEGER_OPERATORS for node in graph.node):
        return "int8"
    size: dict[int, int] = {}
    for tensor in graph.initializer:
        size[tensor.data_type] = size.get(tensor.data_type, 0) + int(np.prod(tensor.dims))
    half = size.get(onnx.TensorProto.FLOAT16, 0)
    return "fp16" if half > size.get(onnx.TensorProto.FLOAT, 0) else "fp32"


def torch_subjects(ways: TorchWays, network: Network, env: Env) -> tuple[list[Subject], list[Conversion]]:
    """The network and the dense one in torch, on the CPU and, where the run uses it, on CUDA; with the accuracy of other
    precisions than fp32, which the stages before have told.
    """
    pairs = [("model.fp32", network)]
    if env.dense.digest != network.digest:
        pairs.insert(0, (DENSE, env.dense))
    subjects: list[Subject] = []
    made: list[Conversion] = []
    for name, source in pairs:
        folder = env.scratch / "torch" / name
        source.save(folder)
        for precision in ways.precisions:
            metrics = _in_torch(source, precision, env) if precision != "fp32" else {}
            for mode, layout in product(ways.modes, ways.layouts):
                places = (
                    ("cuda",)
                    if mode == "cuda_graph"
                    else ("cpu", "cuda")
                    if env.device == "cuda"
                    else ("cpu",)
                )
                for place in places:
                    runtime = torch_name(place, mode, layout, precision)
                    job = {
                        "shape": list(env.task.example().shape), "allow_code": env.allow_code, "mode": mode,
                        "layout": layout, "precision": precision,
                    }  # fmt: skip
                    subjects.append(Subject(name, runtime, precision, folder, place, True, job))
                    if metrics:
                        made.append(Conversion(name, runtime, precision, folder, Path(), metrics=metrics))
    return subjects, made


def torch_name(place: str, mode: str, layout: str, precision: str) -> str:
    """What a way of running in torch is called: "torch", "torch-cuda compiled channels last bf16"."""
    parts = (
        "torch-cuda" if place == "cuda" else "torch",
        "" if mode == "eager" else mode.replace("_", " "),
        "channels last" if layout == "channels_last" else "",
        "" if precision == "fp32" else precision,
    )
    return " ".join(part for part in parts if part)


def _in_torch(source: Network, precision: str, env: Env) -> dict[str, float]:
    """The metrics of a network that computes in halves, on the val split."""
    import torch

    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    return env.task.evaluate(torch_predictor(source.build(), env.task, env.device, dtype), "val")


def profile_subjects(
    subjects: Sequence[Subject], config: Profile, events: Events, stage: str, made: Sequence[Conversion] = (),
    base: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The figures of `edgec.bench.rounds.measure_on` for the first device, with "conversions", "fusion" (of int8 files), and
    "others": the figures of the devices after it. A device that gives nothing becomes an entry of "failures". Raises
    Missing or StageError when none gives anything.
    """
    refused = [
        {
            "artifact": m.artifact,
            "runtime": m.runtime,
            "threads": 0,
            "batch": 1,
            "kind": m.kind,
            "error": m.reason,
        }
        for m in made
        if m.reason
    ]
    found: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    for device in open_devices(config.devices):
        try:
            there = [s for s in subjects if device.name == "local" or not s.runtime.startswith("torch")]
            with device.lease(events):
                found.append(measure_on(device, there, config, events, stage, base, [] if found else refused))
        except EdgecError as error:
            kind = "missing" if isinstance(error, Missing) else "failed"
            told = {"artifact": "", "runtime": "", "threads": 0, "batch": 1, "kind": kind}
            failures.append({**told, "device": device.name, "error": str(error)})
            events.note(str(error), "error", stage)
        finally:
            device.close()
    if not found:
        raise_first(failures)
    for figures in found:
        _name_modules(figures, {s.artifact: s.place for s in subjects if s.place.suffix == ".onnx"})
    first, *others = found
    first["failures"] = first["failures"] + failures
    names = [cell["artifact"] for cell in first["cells"]]
    return {
        **first,
        "conversions": [m.to_json() for m in made],
        "fusion": _fusions(subjects, names),
        "others": others,
    }


def _name_modules(figures: dict[str, Any], files: Mapping[str, Path]) -> None:
    """Give the operators of `figures` the module that they belong to, where they are convolutions of a file of edgec's."""
    for name, operators in figures["operators"].items():
        file = files.get(name.partition(" in ")[0])
        modules = _modules_beside(file) if file is not None else {}
        for row in operators:
            row["layer"] = modules.get(layer_name(row["name"]), "")


def _modules_beside(file: Path) -> dict[str, str]:
    """`modules_of` of an artifact, with the help of the fp32 file beside it where there is one."""
    plain = file.with_name(f"{file.name.partition('.')[0]}.fp32.onnx")
    try:
        return modules_of(read_graph(file), read_graph(plain) if plain.is_file() else None)
    except StageError:
        return {}


def _fusions(subjects: Sequence[Subject], measured: Sequence[str]) -> dict[str, Any]:
    """What onnxruntime makes of each int8 file: integer convolutions, and those left in float with their layer and why."""
    found: dict[str, Any] = {}
    for subject in subjects:
        if (
            subject.precision != "int8"
            or subject.runtime != "onnxruntime"
            or subject.artifact not in measured
        ):
            continue
        told = fusion(onnx.load(str(subject.place)), ()).model_dump(mode="json")
        modules = _modules_beside(subject.place)
        for left in told["left_float"]:
            left["layer"] = modules.get(layer_name(left["node"]), left["layer"])
        found[subject.artifact] = told
    return found
