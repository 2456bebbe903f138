"""The doctor tells, and never fails."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from edgec.cli import app as cli
from edgec.cli import console
from edgec.run import doctor


def test_rows_have_three_cells_and_name_what_matters() -> None:
    rows = doctor.report()
    names = [row.what for row in rows]
    assert {
        "python",
        "torch",
        "onnxruntime",
        "CUDA",
        "CPU",
        "int8 on this CPU",
        "memory",
        "disk here",
    } <= set(names)
    assert all(len(row) == 3 and row.what and row.found for row in rows)
    assert all(isinstance(cell, str) for row in rows for cell in row)


def test_a_missing_package_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    rows = {row.what: row for row in doctor.report()}
    assert rows["onnx"].found == "not installed"
    assert rows["onnx"].remedy.startswith("pip install onnx")
    assert rows["optional: openvino"].found == "not installed"
    assert "pip install 'edgec[ncnn]'" in rows["optional: pnnx"].remedy


def test_the_table_shows_remedies_as_they_are_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    remedy = "pip install 'edgec[mnn]'"
    monkeypatch.setattr(doctor, "report", lambda: [doctor.Row("optional: MNN", "not installed", remedy)])
    monkeypatch.setattr(console.out, "_width", 120)
    run = CliRunner().invoke(cli.app, ["doctor"])
    assert run.exit_code == 0
    assert remedy in run.output


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"avx512_fp16"}, "avx512_fp16"),
        ({"asimdhp"}, "asimdhp"),
        ({"avx2", "f16c"}, "not faster"),
        (set(), "does not report"),
    ],
)
def test_what_fp16_will_do(flags: set[str], said: str) -> None:
    assert said in doctor.fp16_row(frozenset(flags)).found


def test_a_look_that_fails_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise RuntimeError("no processor")

    monkeypatch.setattr(doctor.local, "cpu_name", broken)
    rows = {row.what: row for row in doctor.report()}
    assert "no processor" in rows["cpu"].found
    assert "memory" in rows


@pytest.mark.parametrize(
    ("flags", "machine", "said"),
    [
        ({"avx2", "avx512_vnni"}, "x86_64", "avx512_vnni"),
        ({"avx2"}, "x86_64", "can saturate"),
        ({"sse2"}, "x86_64", "not time"),
        ({"asimd", "asimddp"}, "aarch64", "NEON asimddp"),
        ({"asimd"}, "aarch64", "not time"),
        (set(), "arm64", "does not report"),
    ],
)
def test_what_int8_will_do(flags: set[str], machine: str, said: str) -> None:
    assert said in doctor.int8_row(frozenset(flags), machine).found


def test_torch_is_not_imported() -> None:
    code = "import sys; from edgec.run.doctor import report; report(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
