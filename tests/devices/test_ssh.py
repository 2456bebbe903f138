"""A board behind ssh: an OpenSSH server on this machine, with host keys, a home and a greeting of its own."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from boards import Board, keypair

from edgec.bench.files import profile_artifacts
from edgec.core.errors import Missing, RecipeError, StageError
from edgec.core.events import Events, Note, Progress
from edgec.core.results.artifact_id import artifact_named
from edgec.core.results.profile import ProfileResult
from edgec.devices.device import Device, DeviceLost
from edgec.devices.inventory import open_devices
from edgec.devices.probe_job import ProbeJob
from edgec.devices.ssh import Ssh, parsed
from edgec.recipe import Profile

QUICK: dict[str, Any] = {"warmup_seconds": 0.01, "min_seconds": 0.03, "max_seconds": 0.1, "interval": 0.3}


@pytest.fixture
def open_board(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Device]:
    """Opens the board by its entry in a device file."""

    def opened(**entry: str) -> Device:
        (tmp_path / "devices.yaml").write_text(board.entry(**entry))
        monkeypatch.setenv("EDGEC_DEVICES", str(tmp_path / "devices.yaml"))
        return open_devices([entry.get("name", "board")])[0]

    return opened


def job(path: Path, **changes: Any) -> ProbeJob:
    made: Any = {
        "what": "latency",
        "runtime": "onnxruntime",
        "artifact": str(path),
        "threads": 1,
        **QUICK,
        **changes,
    }
    return made


def golden(path: Path, wrong: float = 0.0) -> Path:
    images = np.random.default_rng(1).random((1, 3, 16, 16), dtype=np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"images": images})
    np.savez(path.with_suffix(".npz"), images=images, out=np.asarray(out) + wrong)
    return path.with_suffix(".npz")


def test_what_the_board_is(board: Board, open_board: Callable[..., Device]) -> None:
    device = open_board()
    told: Any = device.environment()
    device.close()
    assert told["cores"] == len(os.sched_getaffinity(0))
    assert told["python"].count(".") == 2
    assert "onnxruntime" in told["versions"]
    assert not board.copies.exists()  # looking copies nothing


def test_latency_on_the_board_leaves_nothing_there(
    board: Board, open_board: Callable[..., Device], tiny_onnx: Callable[..., Path]
) -> None:
    path = tiny_onnx()
    device = open_board()
    with device.lease(Events()):
        answer: Any = device.probe(job(path, golden=str(golden(path))))
        assert answer["snr_db"] > 100
        assert len(answer["samples_ms"]) >= 3
        times: Any = device.probe(job(path, what="operators"))
        assert "Conv" in times["types"]
        files = sorted(p.name for p in board.copies.rglob("*") if p.is_file())
        assert files == ["artifact.onnx", "artifact.onnx", "golden.npz", "probe.pyz"]
    assert list(board.copies.iterdir()) == []
    device.close()


def test_an_interrupted_copy_is_resumed(
    board: Board,
    open_board: Callable[..., Device],
    tiny_onnx: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tiny_onnx()
    body = path.read_bytes()
    device: Any = open_board()
    folder = board.home / device._copy([_copied(path)])
    (folder / "artifact.onnx").rename(folder / "artifact.onnx.part")
    (folder / "artifact.onnx.part").write_bytes(body[:500])
    device._folders.clear()
    sent: list[int] = []
    run = device._run

    def watched(script: str, given: Any, limit: float, what: str) -> Any:
        if script.startswith("cat"):
            sent.append(len(body) - given.tell())
        return run(script, given, limit, what)

    monkeypatch.setattr(device, "_run", watched)
    device._copy([_copied(path)])
    assert (folder / "artifact.onnx").read_bytes() == body
    assert sent == [len(body) - 500]
    # what came over damaged is found by its digest, and sent anew from the beginning
    (folder / "artifact.onnx").rename(folder / "artifact.onnx.part")
    (folder / "artifact.onnx.part").write_bytes(b"x" * 500)
    device._folders.clear()
    device._copy([_copied(path)])
    assert (folder / "artifact.onnx").read_bytes() == body
    assert sent[1:] == [len(body) - 500, len(body)]
    device.close()
    assert not folder.exists()


def _copied(path: Path) -> Any:
    from edgec.devices.remote import Copied

    return Copied(path, "artifact.onnx")


def test_packages_and_external_data_are_copied_whole(
    board: Board, open_board: Callable[..., Device], tiny_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    import onnx

    model = onnx.load(str(tiny_onnx()))
    path = tmp_path / "large" / "large.onnx"
    (path.parent / "weights").mkdir(parents=True)
    onnx.save(
        model,
        str(path),
        save_as_external_data=True,
        location="weights/w.bin",
        size_threshold=0,
        convert_attribute=False,
    )
    device = open_board()
    with device.lease(Events()):
        assert device.probe(job(path))["inputs"] == {"images": [1, 3, 16, 16]}
        (path.parent / "weights" / "w.bin").unlink()
        with pytest.raises(StageError, match=r"'weights/w.bin', which is missing"):
            device.probe(job(path))
        folder = tmp_path / "package"
        folder.mkdir()
        (folder / "a name.bin").write_bytes(b"")
        with pytest.raises(StageError, match="its name cannot be used on board"):
            device.probe(job(folder, runtime="ncnn"))
    device.close()


def test_an_unknown_host_key_is_refused(board: Board, open_board: Callable[..., Device]) -> None:
    board.known.write_text("")
    device = open_board()
    with pytest.raises(DeviceLost, match=r"host key is not known; connect once by hand \(ssh -p"):
        device.environment()
    device.close()


def test_a_changed_host_key_is_refused(
    board: Board, open_board: Callable[..., Device], tmp_path: Path
) -> None:
    board.know(keypair(tmp_path / "another"))
    device = open_board()
    with pytest.raises(DeviceLost, match=r"host key has changed.*ssh-keygen -R \[127.0.0.1\]:\d+"):
        device.environment()
    device.close()


def test_a_key_that_is_not_let_in(board: Board, open_board: Callable[..., Device]) -> None:
    (board.folder / "authorized_keys").write_text("")
    device = open_board()
    with pytest.raises(DeviceLost, match="refuses the login; put your public key there"):
        device.environment()
    device.close()


def test_a_board_without_python(board: Board, open_board: Callable[..., Device]) -> None:
    device = open_board(python="/nowhere/python3")
    with pytest.raises(Missing, match=r"it needs /nowhere/python3 with numpy and onnxruntime.*devices.yaml"):
        device.environment()
    with pytest.raises(Missing, match="a program is missing on board"), device.lease(Events()):
        pass
    device.close()


def test_a_board_whose_python_has_no_numpy(
    board: Board, open_board: Callable[..., Device], tiny_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    device = open_board(python=str(bare))
    with device.lease(Events()), pytest.raises(Missing, match=r"numpy cannot be imported.*pip install numpy"):
        device.probe(job(tiny_onnx()))
    device.close()


def test_a_runtime_that_crashes_or_hangs_on_the_board(
    board: Board, open_board: Callable[..., Device], tiny_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    broken = tmp_path / "onnxruntime"
    broken.mkdir()
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexport PYTHONPATH={tmp_path}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    device = open_board(python=str(python))
    with device.lease(Events()):
        (broken / "__init__.py").write_text("import os\nos.kill(os.getpid(), 11)\n")
        with pytest.raises(StageError, match="was ended by SIGSEGV"):
            device.probe(job(tiny_onnx()))
        (broken / "__init__.py").write_text("import time\ntime.sleep(1000)\n")
        began = time.monotonic()
        with pytest.raises(StageError, match="was ended by SIGALRM"):
            device.probe(job(tiny_onnx()), 0.5)
        assert time.monotonic() - began < 30
    device.close()


def test_measurements_before_the_board_disappears_are_kept(
    board: Board, open_board: Callable[..., Device], tiny_onnx: Callable[..., Path]
) -> None:
    open_board()
    heard: list[Any] = []

    def pull_the_plug(event: Any) -> None:
        heard.append(event)
        if isinstance(event, Progress) and event.done == 3 and board.process.poll() is None:
            board.stop()

    paths = [tiny_onnx("a.onnx"), tiny_onnx("b.onnx")]
    config = Profile(
        runtimes=("onnxruntime",), threads=(1,), processes=4, devices=("board", "local"), **QUICK
    )
    result = profile_artifacts(paths, config, Events(listeners=(pull_the_plug,)))
    assert result.first.device == "board"
    assert [(c.artifact.name, c.processes) for c in result.first.cells] == [("a", 2), ("b", 1)]
    (failure,) = result.failures
    assert failure.kind == "lost"
    assert [(o.device, len(o.cells)) for o in result.others] == [("local", 2)]
    assert sum(isinstance(e, Note) and e.level == "error" for e in heard) == 1


def test_a_board_that_is_not_there_costs_the_others_nothing(tiny_onnx: Callable[..., Path]) -> None:
    config = Profile(
        runtimes=("onnxruntime",),
        threads=(1,),
        processes=1,
        devices=("ssh://nobody@127.0.0.1:9", "local"),
        **QUICK,
    )
    figures = profile_artifacts([tiny_onnx()], config, Events()).first
    assert (figures.device, len(figures.cells)) == ("local", 1)
    (failure,) = figures.failures
    assert (failure.device, failure.kind) == ("ssh://nobody@127.0.0.1:9", "missing")
    assert "nothing listens there" in failure.error
    alone = config.model_copy(update={"devices": ("ssh://nobody@127.0.0.1:9",)})
    with pytest.raises(Missing, match="nothing listens there"):
        profile_artifacts([tiny_onnx()], alone, Events())


def test_wrong_numbers_on_the_board_are_not_a_measurement(
    board: Board, open_board: Callable[..., Device], tiny_onnx: Callable[..., Path]
) -> None:
    open_board()
    path = tiny_onnx()
    (path.parent / "golden").mkdir()
    shutil.move(golden(path, wrong=1.0), path.parent / "golden" / "tiny.npz")
    config = Profile(runtimes=("onnxruntime",), threads=(1,), processes=1, devices=("board",), **QUICK)
    with pytest.raises(
        StageError, match=r"tiny in onnxruntime on board: its outputs are -?\d+.\d dB from the golden"
    ):
        profile_artifacts([path], config, Events())


def test_one_lease_for_all_who_measure_on_the_board(
    board: Board, open_board: Callable[..., Device], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = open_board(), open_board()
    heard: list[Any] = []
    order: list[str] = []

    def wait() -> None:
        with second.lease(Events(listeners=(heard.append,))):
            order.append("second")

    with first.lease(Events()):
        # as on another machine: only the board's own lock keeps them apart
        monkeypatch.setenv("EDGEC_LEASES", str(tmp_path / "elsewhere"))
        thread = threading.Thread(target=wait)
        thread.start()
        while not heard:
            time.sleep(0.05)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert "another measurement runs on board; waiting" in heard[0].message
    for device in (first, second):
        device.close()


@pytest.mark.parametrize(
    "address",
    [
        "ssh://-oProxyCommand=touch%20x", "ssh://-l@host", "ssh://user@-host", "ssh://a;b", "ssh://a$(b)", "ssh://", "ssh://u@h:0x",
        "ssh://u@h:99999", "ssh://u:secret@h", "ssh://u@h/folder", "ssh://u@h?x", "ssh://u'@h", "ssh://h h",
    ],
)  # fmt: skip
def test_a_host_that_could_be_anything_else_is_refused(address: str) -> None:
    with pytest.raises(RecipeError, match="is not the address of a machine; write ssh://user@host"):
        open_devices([address])


def test_addresses() -> None:
    assert parsed("ssh://pi@raspberrypi.local:2222") == ("pi", "raspberrypi.local", 2222)
    assert parsed("ssh://Alias") == (None, "Alias", None)
    assert parsed("ssh://u@[fe80::1]:22") == ("u", "fe80::1", 22)
    client = Ssh("ssh://pi@board")
    command = client.command("echo $HOME")
    client.close()
    assert command[-3:] == ["--", "board", "sh -c 'echo $HOME'"]
    options = dict(o.split("=", 1) for o in command if "=" in o)
    assert options["StrictHostKeyChecking"] == "yes"
    assert options["BatchMode"] == "yes"


def test_the_device_file_tells_all_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "devices.yaml"
    monkeypatch.setenv("EDGEC_DEVICES", str(path))
    with pytest.raises(RecipeError, match="EDGEC_DEVICES"):
        open_devices(["pi"])
    path.write_text(
        "pi:\n  adress: ssh://pi@board\nphone:\n  address: usb://x\n  python: /a b/python\nother:\n  address: adb://R58\n"
        "  benchmarks: {tflite: /x}\n"
    )
    with pytest.raises(RecipeError) as caught:
        open_devices(["pi"])
    text = str(caught.value)
    for part in ("devices.yaml:2", "did you mean 'address'", "of pi", "this key is missing", "of other"):
        assert part in text, text
    path.write_text("phone:\n  address: usb://x\n  python: /a b/python\n")
    with pytest.raises(RecipeError) as caught:
        open_devices(["phone"])
    assert "devices.yaml:3 phone.python: '/a b/python' contains characters" in str(caught.value)
    assert "devices.yaml:2 phone.address: device 'usb://x' is not an address" in str(caught.value)
    path.write_text("phone:\n  address: adb://R58\n")
    with pytest.raises(RecipeError, match="did you mean phone"):
        open_devices(["local", "phon"])


def test_json_of_figures_on_a_board(
    board: Board, open_board: Callable[..., Device], tiny_onnx: Callable[..., Path]
) -> None:
    open_board()
    config = Profile(runtimes=("onnxruntime",), threads=(1,), processes=2, devices=("board",), **QUICK)
    result = profile_artifacts([tiny_onnx()], config, Events())
    assert ProfileResult.model_validate_json(result.model_dump_json()) == result
    assert result.first.environment.pinned
    assert result.first.environment.versions["onnxruntime"] == onnxruntime.__version__
    assert result.first.operators_of(artifact_named("tiny"))
