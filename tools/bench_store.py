"""What the store bears: processes that put and get results of the same keys at once, and are killed (SIGKILL) meanwhile.

    python tools/bench_store.py --operations 1000 --processes 4 --kills 20

Errors are exceptions and wrong contents. Lost is a result that was seen once and is missing, or another writer's, later.
Ends with one JSON line: counts, and the median of a put that writes, of one that finds its result there, and of a get.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import statistics
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from results_file import add_write, finish
from results_schema import Figure

from edgec.core.network import Network
from edgec.run.store import Result, Store, key_of

NETWORK = Network("tiny", weights={"w": torch.zeros(1)})


def parts_of(number: int) -> dict[str, Any]:
    return {"number": number}


def contents(result: Result) -> str:
    """Who wrote an entry; its two files must agree on that."""
    writer = (result.files / "writer.txt").read_text(encoding="utf-8")
    if result.metrics != {"writer": writer}:
        raise AssertionError(f"{result.metrics} beside {writer!r}")
    return writer


def work(root: Path, keys: int, seed: int) -> None:
    """Put and get until killed; a line in a journal for each operation: its kind, key, writer, milliseconds."""
    store, draw, own = Store(root / "store"), random.Random(seed), f"{os.getpid()}-{seed}"
    source = root / "sources" / own
    source.mkdir(parents=True)
    (source / "writer.txt").write_text(own, encoding="utf-8")
    with (root / "journals" / own).open("a", encoding="utf-8", buffering=1) as journal:
        while not (root / "stop").exists():
            number, kind = draw.randrange(keys), draw.choice(["put", "get"])
            began = time.perf_counter()
            try:
                if kind == "put":
                    found = store.put(
                        key_of(parts_of(number)), parts_of(number), Result(NETWORK, {"writer": own}, source)
                    )
                else:
                    found = store.get(key_of(parts_of(number)))
                writer = contents(found) if found else ""
            except Exception as error:
                kind, writer = (
                    "error",
                    f"{type(error).__name__}: {error}".replace("\t", " ").replace("\n", " "),
                )
            if kind == "put" and writer == own:
                kind = "write"
            journal.write(f"{kind}\t{number}\t{writer}\t{1000 * (time.perf_counter() - began):.3f}\n")


def lines_of(root: Path) -> list[list[str]]:
    rows = [
        line
        for path in (root / "journals").iterdir()
        for line in path.read_text(encoding="utf-8").splitlines(True)
    ]
    return [row.rstrip("\n").split("\t") for row in rows if row.endswith("\n")]


def lost(root: Path, rows: list[list[str]]) -> int:
    """Keys whose result was seen by two writers' names, or was seen and is not there at the end."""
    seen: dict[int, set[str]] = {}
    for kind, number, writer, _ in rows:
        if kind != "error" and writer:
            seen.setdefault(int(number), set()).add(writer)
    store = Store(root / "store")
    count = 0
    for number, writers in seen.items():
        found = store.get(key_of(parts_of(number)))
        count += len(writers) != 1 or found is None or contents(found) not in writers
    return count


def torture(root: Path, operations: int, processes: int, kills: int, seed: int) -> dict[str, Any]:
    """Run the workers until `operations` are done and `kills` of them were killed and replaced."""
    fork = multiprocessing.get_context("fork")
    (root / "journals").mkdir(parents=True)
    draw, began, killed, started = random.Random(seed), time.monotonic(), 0, 0

    def start() -> BaseProcess:
        nonlocal started
        started += 1
        process = fork.Process(target=work, args=(root, max(operations // 4, 1), seed + started))
        process.start()
        return process

    workers = [start() for _ in range(processes)]
    done = 0
    while done < operations or killed < kills:
        time.sleep(draw.uniform(0.002, 0.03))
        done = len(lines_of(root))
        if killed < kills and done >= operations * killed / max(kills, 1):
            index = draw.randrange(processes)
            os.kill(workers[index].pid or 0, signal.SIGKILL)
            workers[index].join()
            workers[index], killed = start(), killed + 1
    (root / "stop").touch()
    for worker in workers:
        worker.join()
    rows = lines_of(root)
    errors = [writer for kind, _, writer, _ in rows if kind == "error"]
    times = {kind: [float(row[3]) for row in rows if row[0] == kind] for kind in ("write", "put", "get")}
    return {
        "operations": len(rows), "processes": processes, "kills": killed, "errors": len(errors), "lost": lost(root, rows),
        "seconds": round(time.monotonic() - began, 2),
        **{f"{kind}_ms": round(statistics.median(each), 3) if each else None for kind, each in times.items()},
        **({"first_error": errors[0]} if errors else {}),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--operations", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    add_write(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = torture(Path(folder), options.operations, options.processes, options.kills, options.seed)
    figures = [
        Figure(row=row, column="measured", value=told[key], digits=digits, unit=unit)
        for row, key, digits, unit in (
            ("operations (puts and gets)", "operations", 0, ""),
            ("workers killed (SIGKILL) meanwhile", "kills", 0, ""),
            ("errors", "errors", 0, ""),
            ("results lost", "lost", 0, ""),
            ("a put that writes, median", "write_ms", 3, "ms"),
            ("a put that finds its result there, median", "put_ms", 3, "ms"),
            ("a get, median", "get_ms", 3, "ms"),
        )
    ]
    finish("store", figures, options.write, told)


if __name__ == "__main__":
    main()
