"""One of the runs of a test: `python sharing_worker.py STORE OUT [GO]`.

It makes one result, once the file GO is there, or takes the one of another run.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch

from edgec.core.events import Event, Events
from edgec.core.network import Network
from edgec.run.process import join_process_group
from edgec.run.sharing import shared, stored
from edgec.run.store import Result, Store, key_of
from edgec.training.distributed import barrier

PARTS = {"stage": 1}


def main(place: Path, out: Path, go: Path | None) -> None:
    torch.set_num_threads(1)
    process_group = join_process_group("cpu")
    notes: list[str] = []

    def hear(event: Event) -> None:
        notes.append(getattr(event, "message", ""))
        out.with_suffix(".heard").write_text("\n".join(notes), encoding="utf-8")

    store, key = Store(place), key_of(PARTS)
    with stored(store, key, "train", Events(listeners=(hear,)), False, process_group) as found:
        resumed = ""
        if found is None:
            checkpoint = store.work(key) / "scratch" / "checkpoint"
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            if checkpoint.exists():
                resumed = checkpoint.read_text(encoding="utf-8")
            if process_group.rank == 0:
                checkpoint.write_text(str(os.getpid()), encoding="utf-8")
            while go is not None and not go.exists():
                time.sleep(0.05)
            network = Network("tiny", weights={"w": torch.zeros(1)})
            if process_group.rank == 0:
                store.put(key, PARTS, Result(network, {"writer": os.getpid()}, store.work(key) / "out"))
            barrier(process_group)
            found = shared(store, key, False)
    told = {"writer": found.metrics["writer"], "me": os.getpid(), "resumed": resumed, "notes": notes}
    out.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
