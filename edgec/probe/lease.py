"""One measurement at a time on a machine: a lock that the system releases with the process that holds it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # no such locks on this system: measurements are not kept apart
    fcntl = None

POLL_SECONDS = 0.2


def place_of(name: str) -> Path:
    """The lock's file, the same for all users of the machine."""
    shared = Path("/tmp")
    return (
        Path(os.environ.get("EDGEC_LEASES") or (shared if shared.is_dir() else tempfile.gettempdir()))
        / f"edgec-{name}.lease"
    )


@contextmanager
def held(name: str, waiting: Callable[[], None]) -> Generator[None]:
    """Hold the lease called `name`; while another process has it, wait, after one call of `waiting`."""
    if fcntl is None:
        yield
        return
    file = _open(place_of(name))
    waited = False
    try:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waited:
                    waiting()
                waited = True
                time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(file)


def _open(path: Path) -> int:
    """For reading: another user's file in a shared folder may not be opened for more, and a lock needs no more."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        except FileExistsError:  # made by another in this moment
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
