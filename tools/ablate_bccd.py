"""Ablation on BCCD: one global threshold or one per scale group; fine-tuning with or without spatial attention.

    EDGEC_DATA=data python tools/ablate_bccd.py [--seeds 0,1,2] [--epochs 15] [--dense FOLDER --sparse FOLDER]

All variants start from one dense and one sparsely trained network (trained first, unless folders of networks at rest
are given), are pruned to the same share of parameters, and are fine-tuned with the same budget. Accuracy is measured in torch
on the test split. Ends with one JSON line.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from results_file import add_write, finish, name_data_folder
from results_schema import Figure

from edgec.core.errors import RecipeError
from edgec.core.events import Events
from edgec.core.network import Network
from edgec.core.results.pruning import PruneResult
from edgec.recipe import Recipe, load
from edgec.run.pipeline import compress
from edgec.run.task import make_task
from edgec.tasks.predictor import torch_predictor


def trained(recipe: Recipe, stages: tuple[str, ...], folder: Path) -> Path:
    """The network after some stages of the recipe, saved as a folder."""
    tree = recipe.model_dump(mode="json")
    tree["stages"] = {name: tree["stages"][name] for name in stages}
    tree["gates"] = {}
    compress(tree, run=folder / "-".join(stages)).network.save(folder / stages[-1])
    return folder / stages[-1]


def variant(
    recipe: Recipe, dense: Path, sparse: Path, threshold: str, attention: bool, seed: int, epochs: int
) -> dict[str, Any]:
    """The recipe of one variant."""
    tree = recipe.model_dump(mode="json")
    prune = tree["stages"]["prune"] | {
        "threshold": threshold,
        "ratios": {} if threshold == "global" else tree["stages"]["prune"]["ratios"],
    }
    terms = [{"kind": "spatial_attention", "taps": "auto", "weight": 1000.0}] if attention else []
    distill = tree["stages"]["distill"] | {"epochs": epochs, "terms": terms, "teacher": str(dense)}
    name = f"ablation-{threshold}-{'attention' if attention else 'plain'}-{seed}"
    return tree | {
        "name": name,
        "seed": seed,
        "network": {"arch": tree["network"]["arch"], "weights": str(sparse)},
        "stages": {"prune": prune, "distill": distill},
        "gates": {},
        "pictures": 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--dense", type=Path)
    parser.add_argument("--sparse", type=Path)
    add_write(parser)
    options = parser.parse_args()
    name_data_folder()
    try:
        recipe = load("bccd.yaml")
    except RecipeError as error:
        sys.exit(str(error))
    if not recipe.data.root.is_dir():  # type: ignore[union-attr]
        sys.exit(f"no data at {recipe.data.root}; set EDGEC_DATA")  # type: ignore[union-attr]
    results: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        dense = options.dense or trained(recipe, ("train",), folder)
        sparse = options.sparse or trained(recipe, ("train", "sparsify"), folder)
        task = make_task(recipe, Events())
        reference = task.evaluate(torch_predictor(Network.load(dense).build(), task), "test")["map50"]
        for seed in (int(s) for s in options.seeds.split(",")):
            for threshold in ("group", "global"):
                for attention in (True, False):
                    tree = variant(recipe, dense, sparse, threshold, attention, seed, options.epochs)
                    run = compress(tree, run=folder / tree["name"])
                    reached = task.evaluate(torch_predictor(run.network.build(), task), "test")
                    label = f"{threshold}, {'spatial attention' if attention else 'plain'}"
                    results.setdefault(label, []).append(reached["map50"])
                    pruned = run.stages["prune"].result
                    assert isinstance(pruned, PruneResult) and pruned.final is not None
                    print(
                        f"seed {seed} {label:28} test map50 {reached['map50']:.4f} pruned val "
                        f"{pruned.final['map50']:.4f} params {pruned.after.params:,} macs {pruned.after.macs:,}",
                        flush=True,
                    )
    summary = {
        label: {
            "mean": round(statistics.mean(v), 4),
            "spread": round(max(v) - min(v), 4),
            "seeds": [round(x, 4) for x in v],
        }
        for label, v in results.items()
    }
    figures = [
        Figure(row=label, column=column, value=round(100 * value, 2), digits=2)
        for label, values in results.items()
        for column, value in (
            *((f"seed {seed}", v) for seed, v in zip(options.seeds.split(","), values, strict=True)),
            ("mean", statistics.mean(values)),
        )
    ]
    details = {"dense_test_map50": round(reference, 4), "epochs": options.epochs, "variants": summary}
    finish("bccd_ablation", figures, options.write, details)


if __name__ == "__main__":
    main()
