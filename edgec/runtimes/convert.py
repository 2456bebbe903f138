"""Converting an .onnx file for another runtime: a folder with the runtime's own files and package.json."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgec.core.errors import RecipeError, StageError
from edgec.core.runtimes import RUNTIMES, converted_runtimes
from edgec.core.table import dotted
from edgec.runtimes.package_file import PackageFile
from edgec.runtimes.source import ConversionSource, Convert


def installed() -> tuple[list[str], list[str]]:
    """(present, absent): the runtimes that need converted files, by whether all that they need is installed."""
    rows = [row for row in RUNTIMES.rows() if row.converted]
    present = [row.name for row in rows if row.installed()]
    return present, [row.name for row in rows if row.name not in present]


def converter(runtime: str) -> Convert:
    """How files get into a runtime.

    Raises RecipeError for an unknown one and for one that takes .onnx files, ExtensionError for one whose package fails.
    """
    spec = RUNTIMES.row(runtime)
    if not spec.converted:
        raise RecipeError(
            f"runtime {runtime!r} needs no conversion; choose from {', '.join(converted_runtimes())}"
        )
    return dotted(spec.converts)


def package(runtime: str, source: ConversionSource, folder: Path) -> Path:
    """Convert into `folder`, which is made anew; gives the folder.

    Raises Missing without the runtime's packages, StageError when the converter fails, crashes or hangs.
    """
    convert = converter(runtime)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    file = convert(source, folder)
    if not (folder / file).is_file():
        raise StageError(f"{source.path.name} for {runtime}: nothing was written")
    PackageFile(
        runtime=runtime,
        file=file,
        precision=source.precision,
        inputs={name: tuple(shape) for name, shape in source.shapes.items()},
        outputs=tuple(o.name for o in source.model.graph.output),
        source=source.path.name,
    ).write(folder)
    return folder
