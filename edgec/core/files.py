"""Writing files so that a crash leaves the old one or the new one, never half of one."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from pathlib import Path

from edgec.core.errors import StorageError

FULL = (errno.ENOSPC, errno.EDQUOT) if hasattr(errno, "EDQUOT") else (errno.ENOSPC,)


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path`: temporary file in the same folder, fsync, rename, fsync of the folder.

    Raises StorageError when the disk is full or cannot be written; what stood at `path` is kept.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise storage_error(path, error) from error


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable, where the system lets a folder be opened (Windows does not)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def storage_error(
    path: Path, error: BaseException, remedy: str = "check the folder's permissions"
) -> StorageError:
    """The error of a write that failed, with the remedy: for a full disk its own, else the caller's."""
    number = getattr(error, "errno", None) or getattr(error.__context__, "errno", None)
    if number in FULL:
        return StorageError(
            f"{path}: no space left on the disk; free some and run the same command, it resumes"
        )
    if number == errno.EROFS:
        return StorageError(f"{path}: the disk is read-only; {remedy}")
    return StorageError(f"{path}: cannot be written ({error}); {remedy}")


def disk_error(error: OSError) -> StorageError | None:
    """What to raise for an error of the system that comes of the disk itself: full, or read-only. None for any other."""
    if error.errno not in (*FULL, errno.EROFS):
        return None
    return storage_error(Path(str(error.filename or "the disk")), error, "write to another folder")


def sha256_of(path: Path) -> str:
    """Full sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
