"""An artifact that runs in a separate process: a runtime that crashes or hangs takes nothing with it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from edgec.core.errors import StageError
from edgec.core.runtimes import opener_of
from edgec.core.session import Array
from edgec.devices import local
from edgec.devices.probe_answer import ending, raise_error
from edgec.probe.packages import read_package
from edgec.probe.serve import read_frame, write_frame

LIMIT_SECONDS = 120.0  # for an answer


class ServedSession:
    """A package opened in its runtime. Use it as a context, or call `close`."""

    metadata: Mapping[str, str] = {}

    def __init__(self, package: Path, runtime: str, threads: int = 1, limit_s: float = LIMIT_SECONDS) -> None:
        manifest = read_package(package)
        self.inputs: Mapping[str, tuple[int | None, ...]] = {
            n: tuple(s) for n, s in manifest["inputs"].items()
        }
        self._what, self._limit = f"{package.name} in {runtime}", limit_s
        job = {
            "what": "serve",
            "runtime": runtime,
            "artifact": str(package),
            "threads": threads,
            "pin": False,
            "opener": opener_of(runtime),
        }
        self._process = subprocess.Popen(
            [sys.executable, str(local.PROBE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=local.child_environment(threads),
        )  # fmt: skip
        self._errors: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self._answer(json.dumps(job).encode() + b"\n")
        except BaseException:
            self.close()
            raise

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Outputs for a batch. Raises StageError when the runtime fails, dies or takes longer than its limit."""
        answer = self._answer(None, feeds)
        if "error" in answer:
            raise StageError(f"{self._what}: {answer['error']}")
        return [answer[f"o{index}"] for index in range(len(answer))]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # what was not yet written
                    pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, line: bytes | None, feeds: Mapping[str, Array] | None = None) -> dict[str, Any]:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._limit, end)
        timer.start()
        try:
            if line is not None:
                process.stdin.write(line)
                process.stdin.flush()
            else:
                write_frame(cast("BinaryIO", process.stdin), feeds or {})
            answer = read_frame(cast("BinaryIO", process.stdout))
        except BrokenPipeError:
            answer = None
        finally:
            timer.cancel()
        if answer is not None and "kind" in answer:
            raise_error(str(answer["kind"]), str(answer["error"]), self._what)
        if answer is not None:
            return answer
        code = process.wait()
        if late.is_set():
            raise StageError(f"{self._what}: no answer in {self._limit:.0f} s, so its process was ended")
        tail = " | ".join(self._errors[-3:]) or "no message"
        raise StageError(f"{self._what}: its process {ending(code)}: {tail}")

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                self._errors = [*self._errors[-20:], line.decode(errors="replace").strip()]
