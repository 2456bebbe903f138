"""The table of runtimes, and what must say the same as it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from edgec.core.runtimes import RUNTIMES, converted_runtimes, tells_operators
from edgec.core.table import dotted
from edgec.probe import packages
from edgec.recipe import Profile, RuntimeName

ROOT = Path(__file__).parents[2]


def test_the_probe_opens_every_runtime_that_takes_files_of_its_own() -> None:
    assert list(packages.OPENERS) == [row.name for row in RUNTIMES.own if row.converted]


def test_the_probe_and_the_table_agree_on_who_tells_times_by_operator() -> None:
    assert {"onnxruntime", *packages.OPERATORS} == {r.name for r in RUNTIMES.own if r.tells_operators}
    assert tells_operators("mnn")
    assert not tells_operators("torch, compiled, fp16")


def test_the_names_on_pypi_are_those_of_the_probe() -> None:
    named = {row.name: row.distributions[0][0] for row in RUNTIMES.own if row.converted}
    assert {name: packages.NAMES.get(name, named[name]) for name in named} == named


def test_every_extra_of_the_table_installs_the_tables_distributions() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for row in RUNTIMES.own:
        for name, _ in row.distributions:
            assert any(needed.startswith(f"{name}>=") for needed in extras[row.extra]), name


@pytest.mark.parametrize("name", converted_runtimes())
def test_every_converter_of_the_table_can_be_imported(name: str) -> None:
    assert callable(dotted(RUNTIMES.row(name).converts))


def test_recipes_take_the_runtimes_of_the_table_and_no_other() -> None:
    names = RUNTIMES.names()
    assert Profile(runtimes=tuple(names)).runtimes == tuple(names)
    assert TypeAdapter(RuntimeName).json_schema()["enum"] == [row.name for row in RUNTIMES.own]
    for wrong in ("null", "tensorrt"):
        with pytest.raises(ValidationError, match="Input should be 'onnxruntime', 'torch', 'openvino'"):
            Profile(runtimes=(wrong,))


def test_a_test_double_is_known_where_it_was_added(null_runtime: str) -> None:
    assert Profile(runtimes=(null_runtime,)).runtimes == ("null",)
    assert "null" in RUNTIMES.names()
    assert not RUNTIMES.row(null_runtime).converted
