"""Strict types everywhere, but for rules on unknown types in the files that pyproject.toml lists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LISTED = re.findall(r"^# border: (\S+) \(.+\)$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
COMMENT = re.compile(r"^\s*#\s*pyright:(?!\s*ignore\b)(.*)", re.MULTILINE)
ALLOWED = re.compile(r"report(Unknown\w+|MissingTypeStubs|PrivateImportUsage)=false")


def settings(path: Path) -> list[str]:
    """What a file's own comments set for the type checker."""
    comments = COMMENT.findall(path.read_text(encoding="utf-8"))
    return [part.strip() for comment in comments for part in comment.split(",")]


def sources() -> list[Path]:
    return [
        path for folder in ("edgec", "models", "tests", "tools") for path in (ROOT / folder).rglob("*.py")
    ]


def test_the_files_that_turn_rules_off_are_those_that_pyproject_lists() -> None:
    found = [path.relative_to(ROOT).as_posix() for path in sources() if settings(path)]
    assert sorted(found) == sorted(LISTED)


@pytest.mark.parametrize("name", LISTED)
def test_a_border_file_turns_off_rules_on_unknown_types_alone(name: str) -> None:
    assert all(ALLOWED.fullmatch(rule) for rule in settings(ROOT / name))


@pytest.mark.parametrize("name", LISTED)
def test_a_border_file_says_so_in_its_first_line(name: str) -> None:
    assert COMMENT.match((ROOT / name).read_text(encoding="utf-8"))


def test_other_settings_would_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "file.py"
    file.write_text("# pyright: basic\nx = 1  # pyright: ignore[reportMissingImports]\n")
    assert settings(file) == ["basic"]
