"""Writing files so that a crash leaves the old one or the new one, never half of one."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from pathlib import Path

from edgec.core.errors import StorageError


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
    """Make renames inside `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def storage_error(path: Path, error: BaseException) -> StorageError:
    """The error of a write that failed, with the remedy for a full disk."""
    number = getattr(error, "errno", None) or getattr(error.__context__, "errno", None)
    if number == errno.ENOSPC:
        return StorageError(
            f"{path}: no space left on the disk; free some and run the same command, it resumes"
        )
    return StorageError(f"{path}: cannot be written ({error}); check the folder's permissions")


def sha256_of(path: Path) -> str:
    """Full sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
