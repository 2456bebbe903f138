"""How far a difference in mAP can be trusted: a paired bootstrap over the images of a split (Efron 1979).

    python tools/bench_interval.py --recipe bccd --split test --first model.fp32.onnx --second model.int8.onnx

Images are drawn with replacement, both artifacts are scored on the same draw, and the interval of their difference is reported.
Without artifacts: yolo-fastest-xl on the VOC test split, fp32 against int8 as the quantize stage makes it. Data from
$EDGEC_DATA. Ends with one JSON line, in points.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from results_file import add_write, data_folder, finish, name_data_folder
from results_schema import Figure

from edgec.core.events import Events
from edgec.recipe import load
from edgec.run.pipeline import compress
from edgec.run.task import make_task
from edgec.runtimes.artifact import predictor
from edgec.tasks.detection.metrics import evaluate_detections
from edgec.tasks.detection.task import Detection

METRICS = ("map50", "map")


def differences(
    task: Detection, paths: list[Path], split: str, draws: int, seed: int
) -> dict[str, dict[str, float]]:
    """The second artifact's metrics less the first's: on the split, and the middle 95 % over draws of its images."""
    pairs = [task.detections(predictor(path), split) for path in paths]  # type: ignore[arg-type]
    count = len(pairs[0][1])
    rng = np.random.default_rng(seed)
    everything = np.arange(count)
    found: list[list[float]] = []
    for draw in range(draws + 1):
        chosen = everything if draw == 0 else rng.integers(0, count, count)
        scored = [
            evaluate_detections(
                [boxes[i] for i in chosen], [truths[i] for i in chosen], task.classes
            ).accuracy()
            for boxes, truths in pairs
        ]
        found.append([100 * (scored[1][name] - scored[0][name]) for name in METRICS])
        if draw % 100 == 0:
            print(f"{draw} of {draws} draws", file=sys.stderr, flush=True)
    low, high = np.quantile(found[1:], [0.025, 0.975], axis=0)
    return {
        name: {"difference": round(found[0][k], 2), "low": round(low[k], 2), "high": round(high[k], 2)}
        for k, name in enumerate(METRICS)
    }


def yolo_fastest(out: Path) -> list[Path]:
    """fp32 and int8 of the recipe's network, not pruned."""
    tree = load("voc_yolo_fastest_xl").model_dump(mode="json")
    stages = {
        "quantize": {"images": 64, "bias_correction": True, "max_float_layers": 0, "metric_layers": 0},
        "export": {"precisions": ["fp32", "int8"], "dense": False},
    }
    run = compress(tree | {"stages": stages, "gates": {}, "pictures": 0, "name": "interval"}, run=out)
    return [run.folder / "artifacts" / f"model.{precision}.onnx" for precision in ("fp32", "int8")]


def main() -> None:
    if not name_data_folder().is_dir():
        sys.exit(f"{data_folder()} does not exist; export EDGEC_DATA=FOLDER")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="voc_yolo_fastest_xl")
    parser.add_argument("--split", default="test", choices=("val", "test"))
    parser.add_argument("--first", type=Path)
    parser.add_argument("--second", type=Path)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_interval"))
    add_write(parser)
    given = parser.parse_args()
    if (given.first is None) != (given.second is None):
        parser.error("give both --first and --second, or neither")
    paths = yolo_fastest(given.out) if given.first is None else [given.first, given.second]
    task = make_task(load(given.recipe), Events(listeners=()))
    if not isinstance(task, Detection):
        parser.error(f"--recipe {given.recipe}: its task is not detection")
    found = differences(task, paths, given.split, given.draws, given.seed)
    row = f"{given.recipe}, {given.split}: {paths[1].parents[1].name}/{paths[1].stem} less {paths[0].stem}"
    figures = [
        Figure(row=row, column=title, value=m["difference"], digits=2, low=m["low"], high=m["high"])
        for title, m in (("mAP50, points", found["map50"]), ("mAP 50:95, points", found["map"]))
    ]
    details = {"first": str(paths[0]), "second": str(paths[1]), "split": given.split, **found}
    finish("intervals", figures, given.write, details)


if __name__ == "__main__":
    main()
