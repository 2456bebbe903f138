"""What the exit codes mean: one table, which the help, the README and the documentation repeat."""

from __future__ import annotations

DONE = 0
USAGE = 2
MISSING = 4
INTERRUPTED = 130

EXIT_CODES = {
    DONE: "done",
    1: "a bug",
    USAGE: "recipe or usage",
    3: "a gate broken",
    MISSING: "a runtime, device or dependency is missing",
    5: "bad data",
    7: "storage (disk full, read-only or damaged)",
    INTERRUPTED: "interrupted",
}


def in_a_line() -> str:
    """All of them: "0 done, 1 a bug, ..."."""
    return ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
