""".onnx files as candidates: in onnxruntime as they are, in other runtimes converted and checked first."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec.bench.candidate import Candidate, fp32_beside
from edgec.bench.conversions import conversions
from edgec.bench.graph_facts import facts_of
from edgec.bench.on_devices import measure_on_all
from edgec.core.errors import StageError
from edgec.core.events import Events
from edgec.core.results.artifact_id import DENSE, AnyArtifact, ForeignArtifact, artifact_named
from edgec.core.results.profile import Conversion, ProfileResult
from edgec.core.runtimes import RUNTIMES
from edgec.env import Env
from edgec.recipe import Profile

Shapes = Mapping[str, Sequence[int]]  # of inputs, by name


@dataclass(frozen=True)
class Prepared:
    """What can be measured, and how each conversion went."""

    candidates: list[Candidate]
    conversions: list[Conversion]


def profile_artifacts(
    paths: Sequence[Path], config: Profile, events: Events, shapes: Shapes | None = None, against: Path | None = None
) -> ProfileResult:  # fmt: skip
    """The figures of any ONNX files, also ones that edgec did not make, in all runtimes but torch.

    Sizes that a file leaves open are 1, unless `shapes` gives the input's, by name. `against` is one of `paths`, which the
    others are compared with. Raises Missing or StageError when nothing could be measured.
    """
    runtimes = [name for name in config.runtimes if name != "torch"]
    if not runtimes:
        raise StageError("an artifact cannot be profiled in torch; take onnxruntime")
    with tempfile.TemporaryDirectory(prefix="edgec-profile-") as folder:
        prepared = prepare_files(paths, runtimes, Path(folder), events, shapes)
        base = next(
            (c.artifact for c in prepared.candidates if against and c.path == against.absolute()), None
        )
        return measure_on_all(prepared.candidates, config, events, "profile", prepared.conversions, base)


def prepare_files(
    paths: Sequence[Path], runtimes: Sequence[str], out: Path, events: Events, shapes: Shapes | None = None,
    env: Env | None = None,
) -> Prepared:  # fmt: skip
    """The candidates of ONNX files in all runtimes; for runtimes with files of their own, converted and checked in `out`.

    Palettized weights are an ONNX way to store int8: such a file is measured in onnxruntime and not converted.
    """
    converted = [name for name in runtimes if RUNTIMES.row(name).converted]
    direct = [name for name in runtimes if not RUNTIMES.row(name).converted]
    plain = candidates_of(paths, direct or ["onnxruntime"], shapes)
    if not converted:
        return Prepared(plain, [])
    files = {c.artifact: c for c in plain if c.path.is_file() and not facts_of(c.path).palettized}
    packages = conversions(list(files.values()), converted, out, events, env)
    candidates = [
        Candidate(
            artifact=each.candidate.artifact,
            runtime=each.result.runtime,
            precision=each.candidate.precision,
            path=each.folder,
            plain=each.candidate.plain,
            golden=each.golden,
        )
        for each in packages
        if each.result.passed
    ]
    return Prepared((plain if direct else []) + candidates, [each.result for each in packages])


def candidates_of(
    paths: Sequence[Path], runtimes: Sequence[str], shapes: Shapes | None = None
) -> list[Candidate]:
    """The candidates of ONNX files: dense first, each path once, files of equal names called by their paths."""
    unique = list(dict.fromkeys(path.absolute() for path in paths))
    unique.sort(key=lambda path: artifact_named(path.stem) != DENSE)
    names = _names(unique)
    candidates: list[Candidate] = []
    for path in unique:
        facts = facts_of(path)
        golden = path.parent / "golden" / f"{path.stem}.npz"
        candidates += [
            Candidate(
                artifact=names[path],
                runtime=runtime,
                precision=facts.precision,
                path=path,
                plain=names.get(fp32_beside(path)),
                open_batch=facts.open_batch,
                golden=golden if golden.is_file() else None,
                shapes=shapes or {},
            )
            for runtime in runtimes
        ]
    return candidates


def _names(paths: Sequence[Path]) -> dict[Path, AnyArtifact]:
    stems = [path.stem for path in paths]
    return {
        path: artifact_named(path.stem) if stems.count(path.stem) == 1 else ForeignArtifact(str(path.with_suffix("")))
        for path in paths
    }  # fmt: skip
