"""The documentation as a site: it builds without a warning, names every command and key, and loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

import edgec
from edgec.core import errors

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools" / "site"))

from command_reference import command_page, commands  # noqa: E402
from python_reference import public_names, python_page  # noqa: E402
from recipe_reference import keys, recipe_page  # noqa: E402


def test_every_key_of_a_recipe_is_in_the_reference() -> None:
    page = recipe_page()
    sections = {name: body for name, body in re.findall(r"\{#part-(\w+)\}\n(.*?)(?=\n## |\Z)", page, re.S)}
    missing = [
        f"{model}.{key}" for model, key in keys() if f"\n| `{key}` |" not in sections.get(model.lower(), "")
    ]
    assert not missing
    assert "\n| `keep_macs` | number, above 0, below 1 | none | Target: multiply-accumulates" in page


def test_every_command_is_in_the_reference() -> None:
    page = command_page()
    paths = [path for path, _ in commands()]
    assert "edgec compress" in paths and "edgec doctor" in paths
    for path, command in commands():
        assert f"\n## {path}\n" in page
        assert str(command.help).strip(), f"{path} has no help"
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                assert f"`{parameter.opts[0]}" in page


def test_angle_brackets_are_text_and_not_html() -> None:
    assert "runs/&lt;recipe>-&lt;n>" in command_page()
    assert "ImageSets/Main/&lt;name>.txt" in recipe_page()


def test_every_public_name_is_in_the_python_reference() -> None:
    page = python_page()
    assert set(edgec.__all__) - {"__version__"} <= public_names().keys()
    for place in public_names().values():
        assert f"\n::: {place}\n" in page
    assert "\n::: edgec.core.results.pruning\n" in page


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: p.name)
def test_lines_of_the_documentation_are_at_most_130_characters(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [
        i for i, line in enumerate(lines, 1) if len(line) > 130 and not line.startswith("|")
    ]  # rows cannot be broken
    assert not long, f"{page.relative_to(ROOT)}: lines {long}"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocs") is None, reason="mkdocs is not installed: pip install 'edgec[docs]'")
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    foreign = re.compile(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["']?(?:https?:)?//[^"'> ]+""")
    loaded = {
        str(p.relative_to(tmp_path)): found
        for p in pages
        if (found := foreign.findall(p.read_text(encoding="utf-8")))
    }
    assert not loaded
    assert (tmp_path / "search" / "search_index.json").stat().st_size > 100_000


def test_the_messages_of_the_troubleshooting_page_are_messages_of_the_program() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    named = re.findall(r"^### `([^`]+)`$", text, re.M)
    assert len(named) > 20
    source = " ".join(p.read_text(encoding="utf-8") for p in (ROOT / "edgec").rglob("*.py"))
    source = re.sub(r'"\s+f?"', "", source)  # a message may run over lines
    lacking = [message for message in named if message not in source]
    assert not lacking, f"no code says {lacking}"


def test_the_troubleshooting_page_has_every_kind_of_error_with_its_exit_code() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    kinds = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.EdgecError)]
    for kind in kinds:
        if kind.__name__ not in ("EdgecError", "ProblemsError"):
            assert re.search(rf"^\| {kind.exit_code} \| .*`{kind.__name__}`", text, re.M), kind.__name__


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: p.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:edgec|tools|pipelines|models|tests|docs)/[\w./-]*)`", page.read_text(encoding="utf-8")
    )
    named = [place for place in named if "NAME" not in place]
    gone = [place for place in named if not (ROOT / place).exists()]
    assert not gone, f"{page.relative_to(ROOT)} names {gone}"


def test_the_table_of_rooms_is_that_of_the_import_rules() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| ([^|]+) \|", text, re.M)
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    wanted = next(c["layers"] for c in layers if c["name"] == "layers")
    there = [" | ".join(re.findall(r"`(\w+)`", row)) for row in rows]
    assert there == [layer for layer in wanted if layer != "__main__"]


def test_the_walk_of_a_newcomer_takes_at_most_a_page() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    walk = text.split("## A newcomer's walk")[1].split("\n## ")[0]
    assert "`keep_macs`" in walk and len(walk.strip().splitlines()) <= 60
