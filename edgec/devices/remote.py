"""A device that takes shell commands: the probe and the artifact are copied to it, and what it says is read.

Copies are kept by content under one folder there, come with their sha256 checked, resume where an interrupted copy ended, and are
removed when the device is closed. Nothing of the user's is put into a command but names that were checked.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn, Protocol

from pydantic import JsonValue

from edgec.core.errors import EdgecError, Missing, StageError
from edgec.core.events import Events
from edgec.devices.device import SAFE, DeviceLost, waiting_for
from edgec.devices.local import PROBE, THREAD_VARIABLES
from edgec.devices.probe_answer import answer_of, default_deadline, ending, late, subject_of
from edgec.devices.probe_job import ProbeJob
from edgec.devices.programs import ARTIFACT, Benchmark
from edgec.onnx.files import files_of
from edgec.probe.lease import held

CALL_SECONDS = 60.0  # for a command that only looks or removes
COPY_SECONDS = 3600.0
PROBE_FILE = "probe.pyz"
DESCRIBE = (PROBE / "describe.py").read_bytes() + b"\nimport json\nprint(json.dumps(environment()))\n"
LEASE = (
    (PROBE / "lease.py").read_bytes()
    + b"""
import sys
with held("device", lambda: print("waiting", flush=True)):
    print("leased", flush=True)
    sys.stdin.buffer.read()
"""
)


class Transport(Protocol):
    """How commands get to a device."""

    @property
    def name(self) -> str: ...

    @property
    def folder(self) -> str:
        """Where copies go: a path without characters that a shell knows."""
        ...

    def command(self, script: str) -> list[str]:
        """The program and arguments that run a script of sh there, with this process's input and output."""
        ...

    def lost(self, code: int, stderr: str) -> EdgecError | None:
        """Why the connection failed, where that is what the exit status says; None where the script itself ended so."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Copied:
    """A file to copy, and its name there."""

    path: Path
    name: str


class Remote:
    """A device behind a transport, measured by the probe in its Python, or by the user's own benchmark programs."""

    def __init__(
        self,
        name: str,
        transport: Transport,
        python: str | None = "python3",
        benchmarks: Sequence[Benchmark] = (),
    ) -> None:
        """`python` is None where the device has none, and only `benchmarks` run."""
        self.name = name
        self._transport, self._python = transport, python
        self._benchmarks = {b.runtime: b for b in benchmarks}
        self._folders: dict[tuple[tuple[str, str], ...], str] = {}  # where files are, by names and contents
        self._digests: dict[tuple[Path, int, int], str] = {}
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    @contextmanager
    def lease(self, events: Events) -> Generator[None]:
        """First among this machine's users of the device, then on it, where it has Python. Copies go with the lease."""
        waiting = waiting_for(self.name, events)
        with held("device-" + hashlib.sha256(self._transport.name.encode()).hexdigest()[:16], waiting):
            if self._python is None:
                try:
                    yield
                finally:
                    self._remove()
                return
            process = subprocess.Popen(
                self._transport.command(self._script(LEASE)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )  # fmt: skip
            try:
                self._await_lease(process, waiting)
                self._folders.clear()  # who had the lease before may have removed them
                yield
            finally:
                self._remove()
                process.kill()
                process.communicate()

    def _await_lease(self, process: subprocess.Popen[bytes], waiting: Callable[[], None]) -> None:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        try:
            process.stdin.write(LEASE)
            process.stdin.flush()
        except BrokenPipeError:
            pass  # reported below, by how it ended
        for line in process.stdout:
            if line.strip() == b"leased":
                return
            if line.strip() == b"waiting":
                waiting()
        stderr = _text(process.stderr.read())
        self._raise(process.wait(), stderr, f"a lease on {self.name}")

    def environment(self) -> dict[str, JsonValue]:
        if self._python is None:
            return self._environment_by_shell()
        done = self._run(self._script(DESCRIBE), DESCRIBE, CALL_SECONDS, self.name)
        if done.returncode != 0:
            self._raise(done.returncode, _text(done.stderr), self.name)
        return answer_of(_text(done.stdout), _text(done.stderr), 0, self.name)

    def probe(self, job: ProbeJob, deadline_s: float | None = None) -> dict[str, JsonValue]:
        runtime = str(job["runtime"])
        what = f"{subject_of(job)} on {self.name}"
        limit = deadline_s if deadline_s is not None else default_deadline(job)
        if runtime.startswith("torch"):
            raise Missing(f"{what}: networks in torch are measured on this machine only")
        artifact = Path(str(job["artifact"]))
        files = [Copied(path, _name_there(path, artifact)) for path in files_of(artifact)]
        if runtime in self._benchmarks:  # MNN's takes every file of the folder for a model
            files = [file for file in files if file.name != "package.json"]
            return self._by_benchmark(self._benchmarks[runtime], job, self._copy(files), limit, what)
        if self._python is None:
            raise Missing(
                f"{what}: there is no Python, and no benchmark program for {runtime}; add one to `benchmarks:` in devices.yaml"
            )
        golden = job.get("golden")
        if golden and Path(golden).is_file():
            files.append(Copied(Path(golden), "golden.npz"))
        folder = self._copy(files)
        remote_job = job.copy()
        remote_job["artifact"] = folder if artifact.is_dir() else f"{folder}/{ARTIFACT}"
        remote_job["golden"] = f"{folder}/golden.npz" if golden else None
        remote_job["limit_s"] = limit
        return self._ask_probe(remote_job, job["threads"], what, limit)

    def _by_benchmark(
        self, benchmark: Benchmark, job: ProbeJob, folder: str, limit: float, what: str
    ) -> dict[str, JsonValue]:
        if job["what"] != "latency":
            raise Missing(f"{what}: benchmark programs do not report times by operator")
        artifact = Path(str(job["artifact"]))
        done = self._run(benchmark.script(folder, artifact, job), b"", limit, what)
        if done.returncode != 0:
            self._raise(done.returncode, _text(done.stderr) or _text(done.stdout), what)
        return benchmark.answer(_text(done.stdout) + "\n" + _text(done.stderr), artifact, what)

    def close(self) -> None:
        self._remove()
        self._transport.close()
        if self._scratch is not None:
            self._scratch.cleanup()
        self._scratch = None

    def _remove(self) -> None:
        """Remove what was copied whole; an interrupted copy stays, to be resumed. Never raises."""
        folders = sorted(set(self._folders.values()))
        self._folders.clear()
        try:
            if folders:
                self._call(f"rm -rf {' '.join(folders)}", CALL_SECONDS)
        except EdgecError:
            pass  # it is gone, or does not answer any more

    # --- the probe -------------------------------------------------------------------------------------

    def _ask_probe(self, job: ProbeJob, threads: int, what: str, limit: float) -> dict[str, JsonValue]:
        given = json.dumps(job).encode() + b"\n"
        done = self._run(self._probe_script(threads), given, limit + CALL_SECONDS, what)
        if done.returncode not in (0, 3):
            self._raise(done.returncode, _text(done.stderr), what)
        return answer_of(_text(done.stdout), _text(done.stderr), done.returncode, what)

    def _script(self, program: bytes) -> str:
        """Runs a program that comes first on its input, so that nothing has to be copied."""
        return f'{self._python} -c "import sys; exec(sys.stdin.buffer.read({len(program)}))"; exit $?'

    def _probe_script(self, threads: int) -> str:
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="edgec-")
            _write_archive(Path(self._scratch.name) / PROBE_FILE)
        folder = self._copy([Copied(Path(self._scratch.name) / PROBE_FILE, PROBE_FILE)])
        counts = " ".join(f"{name}={threads}" for name in THREAD_VARIABLES)
        # Not exec: a shell that stays tells a signal as a status, which connections do not all carry.
        return f"env {counts} {self._python} {folder}/{PROBE_FILE}; exit $?"

    def _environment_by_shell(self) -> dict[str, JsonValue]:
        """What a device without Python reports."""
        lines = self._call(
            "nproc; uname -srm; cut -d \\  -f 1 /proc/loadavg; "
            "cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor 2>/dev/null || echo unavailable; "
            "getprop ro.product.model 2>/dev/null || sed -n /^model.name/p /proc/cpuinfo | head -n 1",
            CALL_SECONDS,
        ).splitlines()
        cores, system, load, governor, *model = [*lines, "", "", "", ""][: max(len(lines), 4)]
        try:
            average: float | None = float(load)
        except ValueError:
            average = None
        return {
            "cpu": (model[0].partition(":")[2] or model[0]).strip() if model else "unknown",
            "cores": int(cores) if cores.isdigit() else 1,
            "governor": governor,
            "temperature_c": "unavailable",
            "energy": "unavailable",
            "busy_cores": None,
            "load_average": average,
            "os": system,
            "python": "none",
            "versions": {},
        }

    # --- copies ----------------------------------------------------------------------------------------

    def _copy(self, files: Sequence[Copied]) -> str:
        """The folder there that holds the files. Raises StageError for a name that may not stand in a command."""
        for file in files:
            if not SAFE.fullmatch(file.name) or file.name.startswith("-"):
                raise StageError(
                    f"{file.path}: its name cannot be used on {self.name}; use letters, digits, '.', '_' and '-' alone"
                )
        key = tuple((file.name, self._digest(file.path)) for file in files)
        if key not in self._folders:
            digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
            folder = f"{self._transport.folder}/{digest}"
            sizes = self._sizes(folder, {str(Path(file.name).parent) for file in files})
            for file, (_, wanted) in zip(files, key, strict=True):
                self._send(file, folder, wanted, sizes)
            self._folders[key] = folder
        return self._folders[key]

    def _digest(self, path: Path) -> str:
        status = path.stat()
        key = path, status.st_size, status.st_mtime_ns
        if key not in self._digests:
            with path.open("rb") as file:
                self._digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests[key]

    def _sizes(self, folder: str, below: set[str]) -> dict[str, int]:
        """Bytes of the files in a folder there, which is made with the folders `below` it where it is not there."""
        places = " ".join(f"{folder}/{place}" for place in sorted(below))
        listing = self._call(
            f"mkdir -p {places} && cd {folder} && find . -type f -exec wc -c {{}} +", CALL_SECONDS
        )
        lines = (line.split() for line in listing.splitlines())
        return {
            parts[1].removeprefix("./"): int(parts[0])
            for parts in lines
            if len(parts) == 2 and parts[0].isdigit()
        }

    def _send(self, file: Copied, folder: str, digest: str, sizes: Mapping[str, int]) -> None:
        size = file.path.stat().st_size
        if sizes.get(file.name) == size:  # only moved to this name once it was checked
            return
        destination, part = f"{folder}/{file.name}", f"{folder}/{file.name}.part"
        offset = sizes.get(f"{file.name}.part", 0)
        for start in (offset, 0) if 0 < offset <= size else (0,):
            with file.path.open("rb") as stream:
                stream.seek(start)
                how = ">>" if start else ">"
                self._call(f"cat {how} {part}", COPY_SECONDS, stream)
            check = self._call(
                f"if command -v sha256sum >/dev/null; then sha256sum {part}; else shasum -a 256 {part}; fi",
                CALL_SECONDS,
            )
            if digest in check.split():  # a login shell may greet first
                self._call(f"mv {part} {destination}", CALL_SECONDS)
                return
            self._call(f"rm -f {part}", CALL_SECONDS)
        raise StageError(
            f"{file.path}: arrives damaged on {self.name}; is its disk full, or {self._transport.folder} not writable?"
        )

    # --- commands --------------------------------------------------------------------------------------

    def _call(self, script: str, limit: float, given: bytes | IO[bytes] = b"") -> str:
        """Standard output of a script. Raises DeviceLost or StageError."""
        done = self._run(script, given, limit, self.name)
        if done.returncode != 0:
            self._raise(done.returncode, _text(done.stderr), self.name)
        return _text(done.stdout)

    def _run(
        self, script: str, given: bytes | IO[bytes], limit: float, what: str
    ) -> subprocess.CompletedProcess[bytes]:
        command = self._transport.command(script)
        try:
            if isinstance(given, bytes):
                return subprocess.run(command, input=given, capture_output=True, timeout=limit, check=False)
            return subprocess.run(command, stdin=given, capture_output=True, timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            raise late(what, limit) from None
        except FileNotFoundError as error:
            raise Missing(f"{self.name}: {error.filename} is not installed on this machine") from error

    def _raise(self, code: int, stderr: str, what: str) -> NoReturn:
        """The error of a command that failed."""
        lost = self._transport.lost(code, stderr)
        if lost is not None:
            raise lost
        tail = " | ".join(stderr.strip().splitlines()[-3:]) or "no message"
        if code in (126, 127):
            raise DeviceLost(
                f"{what}: a program is missing on {self.name} ({tail}); it needs {self._python} with numpy and onnxruntime "
                "(or `python: PATH` of an environment that has them in devices.yaml), or `benchmarks:` there"
            )
        if code > 128:
            tail = f"{ending(128 - code)}; {tail}"
            raise StageError(f"{what}: the measuring process {tail}")
        raise StageError(f"{what}: a command failed with status {code}: {tail}")


def _text(stream: bytes) -> str:
    return stream.decode("utf-8", errors="replace")


def _name_there(path: Path, artifact: Path) -> str:
    """A package's files and external data keep their names, by which they know each other; the artifact needs none."""
    if path == artifact:
        return ARTIFACT
    return path.name if artifact.is_dir() else str(path.relative_to(artifact.resolve().parent))


def _write_archive(place: Path) -> None:
    """The probe as one file that Python runs, the same bytes every time."""
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(PROBE.glob("*.py")):
            if path.name != "__init__.py":
                archive.writestr(zipfile.ZipInfo(path.name, (2020, 1, 1, 0, 0, 0)), path.read_bytes())
