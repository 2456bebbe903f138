"""What the project is as a package: public names, the wheel's content, the commands in the README."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import edgec
from edgec import api
from edgec.cli.app import COMMANDS

ROOT = Path(__file__).parents[1]


def test_the_public_names_are_what_the_interface_holds() -> None:
    held = {name for name in vars(api) if not name.startswith("_") and name != "annotations"}
    assert edgec.__all__ == api.__all__ == sorted(held)
    for name in edgec.__all__:
        assert getattr(edgec, name) is getattr(api, name)
    assert edgec.__version__
    with pytest.raises(AttributeError, match="nonsense"):
        _ = edgec.nonsense


def test_types_and_licence_are_in_the_package() -> None:
    assert (ROOT / "edgec" / "py.typed").is_file()
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "Copyright 2026 The edgec authors" in text and "END OF TERMS AND CONDITIONS" in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    for page in (ROOT / "models").glob("*.md"):
        assert "Licence: Apache-2.0" in page.read_text(encoding="utf-8"), page


def test_it_imports_on_a_system_without_posix_modules() -> None:
    code = (
        "import sys, warnings\n"
        "warnings.filterwarnings('ignore', 'only soft file lock')\n"
        "for name in ('fcntl', 'resource', 'pwd', 'grp', 'termios'): sys.modules[name] = None\n"
        "import edgec.cli.main, edgec.api\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "packages"
    ]
    there = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "edgec").rglob("__init__.py")}
    assert set(listed) == there | {"edgec.models", "edgec.pipelines"}


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [command.__name__ for command in COMMANDS if f"edgec {command.__name__}" not in text]
    assert not missing, f"README.md does not show {missing}"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["recipes"], ["schema"], ["models", "--help"], ["--version"]]
)
def test_what_needs_no_torch_does_not_import_it(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['edgec', *{arguments!r}]\n"
        "try:\n import edgec.cli.main; edgec.cli.main.main()\nexcept SystemExit as done: assert not done.code\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)


@pytest.mark.slow
def test_the_wheel_holds_what_the_tree_holds(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a copy: builds leave files behind, and take what earlier ones left
    for folder in ("edgec", "models", "pipelines"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    held = {n for n in names if ".dist-info/" not in n}
    wanted = {
        str(p.relative_to(ROOT))
        for p in (ROOT / "edgec").rglob("*")
        if p.suffix in (".py", ".html", ".typed")
    }
    for folder, kinds in (("models", (".py", ".safetensors", ".md")), ("pipelines", (".py", ".yaml"))):
        wanted |= {f"edgec/{folder}/{p.name}" for p in (ROOT / folder).iterdir() if p.suffix in kinds}
    wanted = {w for w in wanted if "__pycache__" not in w}
    assert wanted - held == set() and held - wanted == set()
    metadata = next(n for n in names if n.endswith(".dist-info/METADATA"))
    assert any(n.endswith("/licenses/LICENSE") for n in names)
    with zipfile.ZipFile(wheel) as archive:
        assert b"License-Expression: Apache-2.0" in archive.read(metadata)


def test_text_speaks_of_the_project_alone() -> None:
    place = re.compile(r"(?<![\w.])/(?:work|tmp|root|farm)/")
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "pipelines").glob("*.yaml")):
        assert not place.search(path.read_text(encoding="utf-8")), path
