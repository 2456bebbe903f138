"""The official IMDN weights through edgec: `python tools/bench_imdn.py`, one JSON line at the end.

PSNR / SSIM on float luma of Set5 and Set14, in torch and again in onnxruntime after the export, and the adaptive cropping
of IMDN_AS against padding. Data and weights from $EDGEC_DATA.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgec.core.contract.superres import SuperresContract
from edgec.core.network import Network
from edgec.onnx.export import to_onnx
from edgec.recipe import FolderData
from edgec.run.initial_network import own_names, read_weights
from edgec.runtimes.artifact import predictor, write_artifact
from edgec.tasks.predictor import torch_predictor
from edgec.tasks.superres.metrics import psnr_y
from edgec.tasks.superres.task import SuperResolution
from edgec.tiles.contract import as_bytes, prepare
from edgec.tiles.crops import four_crops

DATA = Path(os.environ.get("EDGEC_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")).resolve()
# file, scale, arguments, peak, enlarged
NETWORKS: dict[str, tuple[str, int, dict[str, Any], int, bool]] = {
    "imdn_x2": ("IMDN_x2.pth", 2, {}, 1, False),
    "imdn_x3": ("IMDN_x3.pth", 3, {}, 1, False),
    "imdn_x4": ("IMDN_x4.pth", 4, {}, 1, False),
    "imdn_as": ("IMDN_AS.pth", 4, {"variant": "as"}, 1, True),
    "imdn_rtc": ("model_RTC.pth", 2, {"variant": "rtc"}, 1, False),
    "imdn_rte": ("model_RTE.pth", 2, {"variant": "rte"}, 255, False),
}


def task_of(scale: int, peak: int, enlarged: bool) -> SuperResolution:
    sets = {
        name: {"hr": f"eval/{folder}/HR", "lr": f"eval/{folder}/LR_x{scale}"}
        for name, folder in (("set5", "Set5"), ("set14", "Set14"))
    }
    tree = {"format": "images", "root": DATA / "sr", "train": sets, "val": sets, "scale": scale}
    return SuperResolution(FolderData.model_validate({**tree, "peak": peak, "enlarged": enlarged}), 0)


def figures(metrics: dict[str, float]) -> dict[str, str]:
    return {s: f"{metrics[f'psnr/{s}']:.3f}/{metrics[f'ssim/{s}']:.4f}" for s in ("set5", "set14")}


def cropping(task: SuperResolution, path: Path) -> dict[str, Any]:
    """IMDN_AS on ground truth of Set14 whose sides are no multiples of 4: the paper's four crops against padding."""
    model = predictor(path, 2)
    contract = SuperresContract.of(model.contract, model.name)

    def run(part: np.ndarray) -> np.ndarray:
        return np.concatenate([model.run(one[None])[0] for one in part])

    opened = task.opened("val")
    scores: dict[str, list[float]] = {"four_crops": [], "padding": []}
    for index, pair in enumerate(opened.pairs):
        low, high = opened[index]
        low, high = low[:-1, :-1], high[:-4, :-4]
        x = prepare(low, contract)[:, :-2, :-2]  # two pixels less: no multiple of 4
        high = high[:-2, :-2]
        padded = np.pad(x, ((0, 0), (0, 2), (0, 2)), mode="symmetric")
        ways = {
            "four_crops": four_crops(run, x, 1),
            "padding": run(padded[None])[0][:, :-2, :-2],
        }
        if pair.set == "set14":
            for name, made in ways.items():
                scores[name].append(psnr_y(as_bytes(made, contract).transpose(1, 2, 0), high, 4))
    return {name: round(float(np.mean(values)), 3) for name, values in scores.items()}


def main() -> None:
    if not (DATA / "weights" / "imdn").is_dir():
        sys.exit(f"no weights at {DATA / 'weights' / 'imdn'}; set EDGEC_DATA")
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, (file, scale, args, peak, enlarged) in NETWORKS.items():
            network = Network.initial("imdn", {"scale": scale, **args}, 0)
            net = network.build()
            weights = DATA / "weights" / "imdn" / file
            net.load_state_dict(own_names("imdn", net, read_weights(weights), weights))
            task = task_of(scale, peak, enlarged)
            graph = to_onnx(net, task.example(), ["image"], size_multiple=int(net.multiple))  # type: ignore[arg-type]
            path = Path(scratch) / f"{name}.onnx"
            write_artifact(path, graph, task.contract(net))
            results[name] = {
                "parameters": network.parameters,
                "torch": figures(task.evaluate(torch_predictor(net, task), "val")),
                "onnxruntime": figures(task.evaluate(predictor(path, 2), "val")),
            }
            if name == "imdn_as":
                results[name]["no_multiple_of_4"] = cropping(task, path)
            print(name, results[name], flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
