"""`edgec profile` and `edgec devices`: what is printed, and the exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from boards import Board

from edgec.cli.main import main
from edgec.core import runtimes


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """(exit code, standard output, standard error) of `edgec ARGUMENTS`."""

    def go(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edgec", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as done:
            code = int(done.code or 0)
        told = capsys.readouterr()
        return code, told.out, told.err

    return go


def test_a_table_that_is_never_cut(
    run: Callable[..., tuple[int, str, str]], tiny_onnx: Callable[..., Path], null_runtime: str
) -> None:
    one, two = tiny_onnx("a_rather_long_name_of_a_model.onnx"), tiny_onnx("another.onnx")
    code, out, _ = run("profile", two, "--against", one, "--runtimes", null_runtime, "--threads", "1")
    assert code == 0
    assert "a_rather_long_name_of_a_model" in out
    assert "…" not in out
    assert "times as fast as a_rather_long_name_of_a_model with 1 thread(s) in null" in out


def test_what_was_measured_is_reported_beside_what_was_not(
    run: Callable[..., tuple[int, str, str]], tiny_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    good = tiny_onnx("good.onnx")
    torn = tmp_path / "torn.onnx"
    torn.write_bytes(good.read_bytes()[:200])
    code, out, err = run("profile", torn, good, "--threads", "1", "--json")
    figures = json.loads(out)
    assert code == 2
    assert [c["artifact"] for c in figures["cells"]] == ["good"]
    assert "torn.onnx: is not an ONNX file, or only the beginning of one; export it again" in err
    code, out, err = run("profile", good, "--threads", "1", "--devices", "local,ssh://nobody@127.0.0.1:9")
    assert code == 4
    assert "good" in out
    assert "nothing listens there" in err


def test_wrong_words(run: Callable[..., tuple[int, str, str]], tiny_onnx: Callable[..., Path]) -> None:
    path = tiny_onnx()
    for arguments, told in (
        (("--threads", "0"), "--threads: '0' is not a list of counts"),
        (("--batches", "x"), "--batches: 'x' is not a list of counts"),
        (("--shape", "images"), "--shape: 'images'; write images=1,3,320,320"),
        (("--shape", "images=1,0"), "--shape: '1,0' is not a list of counts"),
        (("--runtimes", "tvm"), "--runtimes: 'tvm'; choose from onnxruntime"),
        (("--runtimes", ","), "--runtimes: names none"),
        (("--devices", "pi"), "device 'pi': is unknown; write it into devices.yaml"),
        (("--devices", "ssh://-oProxyCommand=x"), "is not the address of a machine"),
    ):
        code, out, err = run("profile", path, *arguments)
        assert (code, out) == (2, ""), arguments
        assert told in err


def test_sizes_that_a_file_leaves_open(
    run: Callable[..., tuple[int, str, str]], tiny_onnx: Callable[..., Path]
) -> None:
    path = tiny_onnx(image=(1, 3, "h", "w"))
    code, out, _ = run("profile", path, "--threads", "1", "--shape", "images=1,3,24,40", "--json")
    assert code == 0
    assert json.loads(out)["cells"][0]["size"] == [[24, 40]]
    code, _, err = run("profile", tiny_onnx(), "--threads", "1", "--shape", "images=1,3,24,40")
    assert code == 2
    assert "the graph takes images [1, 3, 16, 16]: give such a shape" in err


def test_all_runtimes_are_those_installed(
    run: Callable[..., tuple[int, str, str]], tiny_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda module: None)
    code, out, err = run("profile", tiny_onnx(), "--runtimes", "all", "--threads", "1")
    assert code == 0
    assert "onnxruntime" in out
    assert "without ncnn: pip install 'edgec[ncnn]'" in err


def test_devices_are_listed_and_checked(
    run: Callable[..., tuple[int, str, str]], board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "devices.yaml"
    path.write_text(board.entry("pi5") + "gone:\n  address: ssh://nobody@127.0.0.1:9\n")
    monkeypatch.setenv("EDGEC_DEVICES", str(path))
    code, out, _ = run("devices", "--json")
    assert code == 4
    rows = {row["device"]: row for row in json.loads(out)}
    assert list(rows) == ["local", "pi5", "gone"]
    assert rows["pi5"]["environment"]["cores"] >= 1
    assert "nothing listens there" in rows["gone"]["error"]
    code, out, _ = run("devices", "pi5")
    assert code == 0
    assert board.address in out
    assert run("devices", "pi")[0] == 2


def test_a_recipe_whose_board_is_off_trains_nothing(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    devices = "stages.profile.devices=[local, 'ssh://nobody@127.0.0.1:9', 'ssh://nobody@127.0.0.1:10']"
    for more in ((), ("--dry-run",)):
        code, _, err = run("compress", "detector.yaml", devices, *more)
        assert code == 4
        assert err.count("nothing listens there") == 2
    assert list(tmp_path.iterdir()) == []
