"""How a benchmark hands on its figures: one JSON line at its end and, with --write, a file under docs/results/."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from results_page import FILES, PAGE, page
from results_schema import Figure, Results

from edgec.core.files import write_atomic


def add_write(parser: argparse.ArgumentParser) -> None:
    """The option --write, the same for every benchmark."""
    parser.add_argument(
        "--write",
        action="store_true",
        help="put the figures into docs/results/ and make docs/results.md again",
    )


def data_folder() -> Path:
    """The folder of the data sets: $EDGEC_DATA, or `shared/data` beside the repository."""
    return Path(os.environ.get("EDGEC_DATA", Path(__file__).parents[2] / "shared" / "data")).resolve()


def name_data_folder() -> Path:
    """The same, also put into the environment, where recipes look for it."""
    os.environ["EDGEC_DATA"] = str(data_folder())
    return data_folder()


def finish(name: str, figures: Sequence[Figure], write: bool, details: object = None) -> None:
    """Print the figures as one JSON line and, where asked, put them into docs/results/NAME.json."""
    line = {"name": name, "figures": [_short(f) for f in figures]} | (
        {} if details is None else {"details": details}
    )
    if write:
        place = FILES / f"{name}.json"
        known = Results.model_validate_json(place.read_text(encoding="utf-8"))
        write_atomic(place, as_text(updated(known, figures)).encode())
        write_atomic(PAGE, page().encode())
    print(json.dumps(line))


def updated(known: Results, measured: Sequence[Figure], today: datetime.date | None = None) -> Results:
    """`known` with figures measured now. Those that were not measured again keep their day, said beside each of them."""
    today = today or datetime.date.today()
    new = {figure.place: figure for figure in measured}
    old = [
        f if f.date is not None or today == known.date else f.model_copy(update={"date": known.date})
        for f in known.figures
    ]
    kept = [new.pop(f.place, f) for f in old]
    return known.model_copy(
        update={
            "date": today,
            "figures": (*kept, *new.values()),
            "versions": {library: installed(library) or said for library, said in known.versions.items()},
            "machine": machine(),
        }
    )


def installed(library: str) -> str | None:
    """The version of a library, or of Python; None where it is not installed."""
    if library == "Python":
        return platform.python_version()
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def machine() -> str:
    """`2 cores of an AMD EPYC (avx512_vnni)`: the processor, and what int8 depends on."""
    lines = (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if Path("/proc/cpuinfo").is_file()
        else []
    )
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = [
        f
        for f in ("avx512_vnni", "avx_vnni", "asimddp")
        if f in about.get("flags", about.get("Features", "")).split()
    ]
    name = about.get("model name", platform.machine())
    return f"{os.cpu_count()} cores of {name}" + (f" ({', '.join(flags)})" if flags else " (no VNNI)")


def as_text(results: Results) -> str:
    """A file's text: one figure a line, so that a changed figure is a changed line."""
    tree = results.model_dump(mode="json", exclude_defaults=True)
    figures = tree.pop("figures")
    head = json.dumps(tree, indent=1, ensure_ascii=False)[:-2]
    lines = ",\n  ".join(json.dumps(f, ensure_ascii=False) for f in figures)
    return f'{head},\n "figures": [\n  {lines}\n ]\n}}\n'


def _short(figure: Figure) -> dict[str, object]:
    return figure.model_dump(mode="json", exclude_defaults=True)
