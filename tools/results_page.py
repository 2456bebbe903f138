"""docs/results.md from the files under docs/results/: `python tools/results_page.py [--check]`."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from results_schema import Figure, Results

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "results.md"
FILES = DOCS / "results"
WIDTH = 120
HEAD = """\
# Results

Figures that edgec's benchmarks measured. This page is made from the files under `docs/results/`, which
`python tools/bench_NAME.py --write` updates; `python tools/results_page.py` makes it again. The variable `EDGEC_DATA` names the
folder of the data sets. Latencies are ratios of both sides in one run, in fresh pinned processes that take turns; where the
report called the machine busy, that is said. Numbers in parentheses behind a value, such as 4.20 (4.00 to 4.42), are its 95 %
interval. What was tried on the way is in the [log of trials](log-of-trials.md).
"""


def page() -> str:
    """The page as Markdown."""
    files = sorted(FILES.glob("*.json"))
    topics = [Results.model_validate_json(path.read_text(encoding="utf-8")) for path in files]
    return "\n\n".join([HEAD.rstrip(), *(_topic(t) for t in sorted(topics, key=lambda t: t.order))]) + "\n"


def _topic(topic: Results) -> str:
    seeds = f"; seed{'s' * (len(topic.seeds) > 1)} {', '.join(map(str, topic.seeds))}" if topic.seeds else ""
    versions = ", ".join(f"{name} {version}" for name, version in topic.versions.items())
    facts = f"{topic.data}{seeds}. {topic.machine}, {topic.date}; {versions}."
    command = textwrap.indent(topic.command, "    ")
    tables = list(dict.fromkeys(f.table for f in topic.figures))
    parts = [f"## {topic.title}", command, *map(_wrapped, (facts, *topic.text))]
    parts += [_table(name, [f for f in topic.figures if f.table == name]) for name in tables]
    return "\n\n".join([*parts, *map(_wrapped, topic.notes)])


def _table(name: str, figures: Sequence[Figure]) -> str:
    rows = list(dict.fromkeys(f.row for f in figures))
    columns = list(dict.fromkeys(f.column for f in figures))
    cells = {(f.row, f.column): _cell(f) for f in figures}
    lines = [f"**{name}**", ""] if name else []
    lines += [f"| | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    lines += [f"| {row} | {' | '.join(cells.get((row, column), '') for column in columns)} |" for row in rows]
    return "\n".join(lines)


def _cell(figure: Figure) -> str:
    """`4.20 ms (4.00 to 4.42; busy)`."""
    number = f"{{:,.{figure.digits}f}}"
    value = "" if figure.value is None else " ".join(filter(None, [number.format(figure.value), figure.unit]))
    ends = (
        ""
        if figure.low is None or figure.high is None
        else f"{number.format(figure.low)} to {number.format(figure.high)}"
    )
    date = "" if figure.date is None else f"of {figure.date}"
    aside = "; ".join(filter(None, [ends, figure.note, date]))
    return f"{value} ({aside})" if value and aside else value or aside


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when the page is not up to date"
    )
    wanted = page()
    if parser.parse_args().check:
        sys.exit(PAGE.read_text(encoding="utf-8") != wanted)
    PAGE.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
