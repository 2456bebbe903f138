"""The accuracy of artifacts outside a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgec.core.errors import Problem, RecipeError
from edgec.core.events import Events, Listener
from edgec.core.network import Network
from edgec.core.results.accuracy import Accuracy
from edgec.recipe import load
from edgec.run.subjects import artifacts_of, network_of
from edgec.run.task import make_task
from edgec.runtimes.artifact import predictor
from edgec.tasks.predictor import torch_predictor
from edgec.tasks.protocol import Split

SPLITS: tuple[Split, ...] = ("train", "val", "test")


def evaluate(
    subject: str | Path,
    recipe: str | Path | Mapping[str, Any],
    *,
    runtime: str = "onnxruntime",
    split: str = "val",
    overrides: Mapping[str, Any] | Sequence[str] = (),
    threads: int = 2,
    allow_code: bool = False,
    listeners: Sequence[Listener] = (),
) -> dict[str, Accuracy]:
    """Accuracy by artifact name, measured in `runtime` on a split of the recipe's data.

    `subject` is an .onnx file, a run's folder, or with runtime "torch" the folder of a network at rest. `allow_code`: a network
    at rest may name an architecture of the user's own. Raises RecipeError, DataError, and NetworkError for a network that cannot
    be built or whose code is not allowed.
    """
    if split not in SPLITS:
        raise RecipeError([Problem("--split", repr(split), f"choose from {', '.join(SPLITS)}")])
    task = make_task(load(recipe, overrides), Events(listeners=tuple(listeners)))
    if runtime == "torch":
        folder = network_of(Path(subject))
        network = torch_predictor(Network.load(folder, allow_code).build(), task)
        return {folder.name: task.evaluate(network, split)}
    return {
        path.stem: task.evaluate(predictor(path, threads, runtime), split)
        for path in artifacts_of(Path(subject))
    }
