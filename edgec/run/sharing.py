"""Results that several runs, and the ranks of one run, take from one store: one makes, the others wait and take."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from edgec.core.errors import StorageError
from edgec.core.events import Events
from edgec.env import ProcessGroup
from edgec.run.store import Damaged, Result, Store


@contextmanager
def stored(
    store: Store,
    key: str,
    stage: str,
    events: Events,
    allow_code: bool,
    process_group: ProcessGroup,
    anew: bool = False,
) -> Generator[Result | None, None, None]:
    """The stored result of a key; or None, and inside the block this run is the only one that makes it.

    While another run makes it, this one waits, and notes so. Rank 0 holds the lock and decides for all ranks. `anew` asks for
    None in any case. Raises StorageError when the store cannot be read, or nothing can be written there.
    """
    from edgec.training.distributed import barrier

    def waiting(holder: str) -> None:
        events.note(f"waiting for {holder}, which is computing this result", stage=stage)

    result = None if anew else _found(store, key, events, allow_code, process_group, quiet=True)
    if result is not None:
        yield result
        return
    with store.making(key, waiting) if process_group.rank == 0 else nullcontext():
        barrier(process_group)
        yield None if anew else _found(store, key, events, allow_code, process_group)


def shared(store: Store, key: str, allow_code: bool) -> Result:
    """A result that rank 0 has seen or made. Raises StorageError when this rank does not see it."""
    result = store.get(key, allow_code)
    if result is None:
        raise StorageError(
            f"{store.root / key}: not found, though rank 0 has it; let EDGEC_STORE name one folder for all ranks"
        )
    return result


def run_number(folder: Path | None, process_group: ProcessGroup) -> int:
    """A number that stands for a run's folder, the same on all ranks; only rank 0 knows the folder."""
    from edgec.training.distributed import agreed

    own = hashlib.sha256(str(folder.absolute()).encode()).digest()[:7] if folder else b""
    return agreed(int.from_bytes(own), process_group)


def _found(
    store: Store, key: str, events: Events, allow_code: bool, process_group: ProcessGroup, quiet: bool = False
) -> Result | None:
    """The stored result, for all ranks or for none; None when it is damaged, which is noted unless `quiet`."""
    from edgec.training.distributed import agreed

    result: Result | None = None
    if process_group.rank == 0:
        try:
            result = store.get(key, allow_code)
        except Damaged as error:
            if not quiet:
                events.note(f"a cached result is computed again: {error}", level="warning")
    if not agreed(result is not None, process_group):
        return None
    return result or shared(store, key, allow_code)
