"""The process that a run lives in: the processes beside it, and how it is stopped."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

from edgec.env import ProcessGroup


def join_process_group(device: str) -> ProcessGroup:
    """The processes that torchrun started, or this one alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ProcessGroup()
    from edgec.training.distributed import init_from_environment

    return init_from_environment(device)


@contextmanager
def interruptible() -> Generator[None]:
    """Let SIGTERM end the work the way ctrl-C does, inside the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before: Callable[[int, FrameType | None], object] | int | None = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
