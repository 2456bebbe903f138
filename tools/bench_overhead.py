"""What edgec costs beside the work itself: `python tools/bench_overhead.py [--demo]`, one JSON line at the end.

Training: a step inside `fit` against a bare loop of the same operations, in turns; goal: at most 1.05 times.
Command line: `edgec --help` against `python -c "import typer, rich"`; goal: at most 3 times.
--demo: peak memory of `edgec compress detector.yaml`, from the resource usage of the process and its children.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from results_file import add_write, finish
from results_schema import Figure
from torch import Tensor, nn

from edgec.core.events import Events
from edgec.core.network import Network
from edgec.core.predictor import Predictor
from edgec.core.results.accuracy import Accuracy
from edgec.env import Env
from edgec.recipe import Train
from edgec.tasks.protocol import Split
from edgec.testing import TinyBatch, TinyBatches, TinyTask
from edgec.training.fit import fit, make_optimizer

ROUNDS = 8
STEPS = 6  # in a round; the first is not counted
BATCH, SIDE = 16, 320  # images; pixels
STARTS = 5  # of each command


@dataclass
class Premade(TinyBatches):
    """Batches that cost nothing. `marks` are the times at which a batch was asked for."""

    data: list[TinyBatch] = field(default_factory=list[TinyBatch])
    marks: list[float] = field(default_factory=list[float])

    def epoch(self, index: int) -> Iterator[TinyBatch]:
        for batch in self.data:
            self.marks.append(time.perf_counter())
            yield batch
        self.marks.append(time.perf_counter())


@dataclass
class Timed(TinyTask):
    """Evaluates nothing."""

    premade: Premade

    def batches(
        self, batch: int, epochs: int, seed: int, workers: int = 0, rank: int = 0, world: int = 1
    ) -> TinyBatches:
        return self.premade

    def evaluate(self, predictor: Predictor, split: Split, limit: int | None = None) -> Accuracy:
        return Accuracy()


def loss(model: nn.Module, batch: TinyBatch, at: Any) -> Mapping[str, Tensor]:
    return {"square": torch.stack([o.square().mean() for o in model(batch.images)]).sum()}


def fit_steps(network: Network, data: list[TinyBatch], config: Train) -> list[float]:
    """Seconds of each counted step inside `fit`."""
    premade = Premade(BATCH, steps=len(data), data=data)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        env = Env(Timed(premade), "bench", Events(place / "events.jsonl"), network, place / "scratch", place)
        fit(network.build(), loss, config, env)
        env.events.close()
    return [b - a for a, b in zip(premade.marks, premade.marks[1:], strict=False)][1:]


def bare_steps(network: Network, data: list[TinyBatch], config: Train) -> list[float]:
    """Seconds of each counted step of forward, backward, clipping, optimizer and average, and nothing else."""
    net = network.build().train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(net, None, config)
    parameters = list(net.parameters())
    live = [t for t in net.state_dict().values() if t.is_floating_point()]
    average = [t.clone() for t in live]
    seconds: list[float] = []
    for batch in data:
        began = time.perf_counter()
        total = loss(net, batch, None)["square"]
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm, foreach=True)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, live, 1 - config.ema_decay)  # pyright: ignore[reportPrivateImportUsage]
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def training() -> dict[str, float]:
    network = Network.initial("yolov4_tiny", {"classes": 3, "width": 0.5}, seed=0)
    generator = torch.Generator().manual_seed(0)
    nothing = torch.zeros(BATCH)  # the loss compares with nothing
    images = (torch.rand(BATCH, 3, SIDE, SIDE, generator=generator) for _ in range(STEPS))
    data = [TinyBatch(each, nothing) for each in images]
    config = Train(epochs=1, batch=BATCH, lr=1e-4)
    bare: list[float] = []
    ours: list[float] = []
    ratios: list[float] = []
    for turn in range(ROUNDS):
        pair: dict[str, list[float]] = {}
        # who goes first changes, so that a drift of the machine falls on both
        for name in ("bare", "fit") if turn % 2 else ("fit", "bare"):
            pair[name] = (bare_steps if name == "bare" else fit_steps)(network, data, config)
        bare += pair["bare"]
        ours += pair["fit"]
        ratios.append(statistics.median(pair["fit"]) / statistics.median(pair["bare"]))
    return {
        "fit_step_ms": round(1e3 * statistics.median(ours), 2),
        "bare_step_ms": round(1e3 * statistics.median(bare), 2),
        "fit_by_bare": round(statistics.median(ratios), 4),
        "fit_by_bare_min": round(min(ratios), 4),
        "fit_by_bare_max": round(max(ratios), 4),
    }


def wall_ms(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return 1e3 * (time.perf_counter() - began)


def starting() -> dict[str, float]:
    ours = [sys.executable, "-m", "edgec", "--help"]
    least = [sys.executable, "-c", "import typer, rich"]
    times = [(wall_ms(ours), wall_ms(least)) for _ in range(STARTS + 1)][1:]  # the first fills disk caches
    return {
        "help_ms": round(statistics.median(a for a, _ in times), 1),
        "import_ms": round(statistics.median(b for _, b in times), 1),
        "help_by_import": round(statistics.median(a / b for a, b in times), 3),
    }


def demo() -> dict[str, float]:
    """The whole demo in a fresh store. Peak memory is that of its largest process."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "edgec", "compress", "detector.yaml", "--run", str(Path(folder) / "run")],
            env={**os.environ, "EDGEC_STORE": str(Path(folder) / "store")}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # KiB on Linux
    return {
        "demo_exit_code": done.returncode,
        "demo_seconds": round(time.perf_counter() - began, 1),
        "demo_peak_mib": round(peak / 1024, 1),
    }


def figures_of(measured: Mapping[str, float]) -> list[Figure]:
    """The cells of the results page."""
    step = "a training step in `fit` against a bare loop of the same operations (median; shared machine)"
    start = '`edgec --help` against `python -c "import typer, rich"`'
    return [
        Figure(row=step, column="measured", value=round(measured["fit_by_bare"], 2), digits=2),
        Figure(row=start, column="measured", value=round(measured["help_by_import"], 2), digits=2),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", action="store_true", help="also run the demo and measure its memory")
    add_write(parser)
    asked = parser.parse_args()
    figures: dict[str, float] = {"threads": torch.get_num_threads(), **starting()}
    if asked.demo:
        figures |= demo()
    figures |= training()
    finish("overhead", figures_of(figures), asked.write, figures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
