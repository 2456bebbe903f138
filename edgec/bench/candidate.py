"""What is to be measured: an artifact in a runtime, and the job that a measuring process gets for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from edgec.core.results.artifact_id import AnyArtifact, ArtifactId, artifact_named
from edgec.core.results.profile import Case
from edgec.core.runtimes import opener_of
from edgec.devices.probe_job import ProbeJob
from edgec.recipe import Profile

Processor = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class TorchWay:
    """How a network runs in torch."""

    processor: Processor
    mode: str  # eager, compiled or cuda_graph
    layout: str
    precision: str
    shape: Sequence[int]  # of the input
    allow_code: bool

    @property
    def runtime(self) -> str:
        """What reports call it: "torch", "torch-cuda compiled channels last bf16"."""
        parts = (
            "torch-cuda" if self.processor == "cuda" else "torch",
            "" if self.mode == "eager" else self.mode.replace("_", " "),
            "channels last" if self.layout == "channels_last" else "",
            "" if self.precision == "fp32" else self.precision,
        )
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Candidate:
    """An ONNX file or a package in a runtime, or the folder of a network in torch."""

    artifact: AnyArtifact
    runtime: str
    precision: str
    path: Path
    plain: AnyArtifact | None = None  # fp32 of the same network and shape, which it is compared with
    open_batch: bool = False  # it takes other batches than that of the file
    golden: Path | None = None
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])  # of open inputs
    torch: TorchWay | None = None

    @property
    def processor(self) -> Processor:
        return "cpu" if self.torch is None else self.torch.processor


@dataclass(frozen=True)
class Trial:
    """A candidate with so many threads, on a batch of so many images."""

    candidate: Candidate
    threads: int
    batch: int = 1

    @property
    def case(self) -> Case:
        c = self.candidate
        return Case(artifact=c.artifact, runtime=c.runtime, threads=self.threads, batch=self.batch)

    def job(self, config: Profile, what: Literal["latency", "operators"] = "latency") -> ProbeJob:
        """What a measuring process reads."""
        candidate = self.candidate
        job = ProbeJob(
            what=what,
            runtime=candidate.runtime,
            artifact=str(candidate.path),
            threads=self.threads,
            batch=self.batch,
            device=candidate.processor,
            warmup_seconds=config.warmup_seconds,
            min_seconds=config.min_seconds,
            max_seconds=max(config.max_seconds, config.min_seconds),
            interval=config.interval,
        )
        if candidate.shapes:
            job["shapes"] = {name: list(shape) for name, shape in candidate.shapes.items()}
        if candidate.golden is not None:
            job["golden"] = str(candidate.golden)
        if opener := opener_of(candidate.runtime):
            job["opener"] = opener
        if (way := candidate.torch) is not None:
            job["shape"] = list(way.shape)
            job["allow_code"] = way.allow_code
            job["mode"], job["layout"], job["precision"] = way.mode, way.layout, way.precision
        return job


def fp32_beside(path: Path) -> Path:
    """Where the fp32 file of the same network and shape lies: what fp16 is made from, and int8 compared with.

    Of files that edgec did not name, that is NAME.fp32.onnx beside NAME.int8.onnx.
    """
    match artifact_named(path.stem):
        case ArtifactId() as own:
            return path.with_name(f"{replace(own, precision='fp32')}{path.suffix}")
        case _:
            return path.with_name(f"{Path(path.stem).stem}.fp32{path.suffix}")
