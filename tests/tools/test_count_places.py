"""The figures of the house are counted right."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import count_places  # noqa: E402


def test_loose_signatures_are_functions_not_hints() -> None:
    tree = ast.parse(
        "def a(x: dict[str, Any], y: Mapping[str, Any]) -> list[dict[str, Any]]: ...\n"
        "def b(x: dict[str, int]) -> None:\n    z: dict[str, Any] = {}\n"
        "async def c() -> dict[str, object] | None: ...\n"
    )
    assert count_places.loose_signatures(tree) == 2


def test_keys_count_once_a_file_and_from_three_files_on() -> None:
    two = "a['name'], {'name': 1, 'kind': 2}, a.get('of'), print('said')"
    trees = {Path(str(i)): ast.parse(two if i < 3 else "a['kind']") for i in range(4)}
    assert count_places.shared_keys(trees) == 3


def test_what_only_a_docstring_says_is_not_a_place(tmp_path: Path) -> None:
    (tmp_path / "edgec").mkdir()
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "edgec" / "said.py").write_text('"""As pkd does."""\nx = 1  # pkd\n')
    (tmp_path / "edgec" / "pkd.py").write_text("KIND = 'pkd'\n")
    (tmp_path / "edgec" / "table.py").write_text("ROWS = ('pkd',)\nMORE = ROWS, 'pkd'\nOTHER = 'pkdx'\n")
    assert count_places.places(tmp_path, ("pkd",), r"pkd\.py") == {"edgec/table.py": 2}


def test_the_house_has_no_circle_and_no_module_outside_the_rules() -> None:
    assert count_places.circles(ROOT) == 0
    assert count_places.outside_rules(ROOT) == 0
