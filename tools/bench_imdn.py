"""The official IMDN weights through edgec: `python tools/bench_imdn.py`, one JSON line at the end.

PSNR / SSIM on float luma of Set5 and Set14, in torch and again in onnxruntime after the export, and the adaptive cropping
of IMDN_AS against padding. Data and weights from $EDGEC_DATA.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from results_file import add_write, data_folder, finish
from results_schema import Figure

from edgec.core.contract.superres import SuperresContract
from edgec.core.network import Network
from edgec.core.results.accuracy import Accuracy
from edgec.onnx.export import to_onnx
from edgec.recipe import FolderData
from edgec.run.initial_network import own_names, read_weights
from edgec.runtimes.artifact import predictor, write_artifact
from edgec.tasks.predictor import torch_predictor
from edgec.tasks.superres.metrics import psnr_y
from edgec.tasks.superres.task import SuperResolution
from edgec.tiles.contract import as_bytes, prepare
from edgec.tiles.crops import four_crops

DATA = data_folder()
# file, scale, arguments, peak, enlarged
NETWORKS: dict[str, tuple[str, int, dict[str, Any], int, bool]] = {
    "imdn_x2": ("IMDN_x2.pth", 2, {}, 1, False),
    "imdn_x3": ("IMDN_x3.pth", 3, {}, 1, False),
    "imdn_x4": ("IMDN_x4.pth", 4, {}, 1, False),
    "imdn_as": ("IMDN_AS.pth", 4, {"variant": "as"}, 1, True),
    "imdn_rtc": ("model_RTC.pth", 2, {"variant": "rtc"}, 1, False),
    "imdn_rte": ("model_RTE.pth", 2, {"variant": "rte"}, 255, False),
}
ROWS = {
    "imdn_x2": "IMDN x2", "imdn_x3": "IMDN x3", "imdn_x4": "IMDN x4", "imdn_rtc": "IMDN_RTC x2",
    "imdn_rte": "IMDN_RTE x2 (0..255)", "imdn_as": "IMDN_AS (x4, enlarged by bicubic first)",
}  # fmt: skip
CROPPING = "IMDN_AS on Set14 images whose sides are no multiples of 4 (two pixels less)"


def task_of(scale: int, peak: int, enlarged: bool) -> SuperResolution:
    sets = {
        name: {"hr": f"eval/{folder}/HR", "lr": f"eval/{folder}/LR_x{scale}"}
        for name, folder in (("set5", "Set5"), ("set14", "Set14"))
    }
    tree = {"format": "images", "root": DATA / "sr", "train": sets, "val": sets, "scale": scale}
    return SuperResolution(FolderData.model_validate({**tree, "peak": peak, "enlarged": enlarged}), 0)


def figures(accuracy: Accuracy) -> dict[str, str]:
    sets = accuracy.by_set
    return {s: f"{sets['psnr'][s]:.3f}/{sets['ssim'][s]:.4f}" for s in ("set5", "set14")}


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


def figures_of(measured: dict[str, dict[str, Any]]) -> list[Figure]:
    """The cells of the results page: accuracy in onnxruntime."""
    found: list[Figure] = []
    for name, m in measured.items():
        found.append(Figure(row=ROWS[name], column="parameters", value=m["parameters"]))
        for key, title in (("set5", "Set5"), ("set14", "Set14")):
            psnr, ssim = map(float, m["onnxruntime"][key].split("/"))
            found.append(Figure(row=ROWS[name], column=f"{title}, PSNR", value=psnr, digits=3))
            found.append(Figure(row=ROWS[name], column=f"{title}, SSIM", value=ssim, digits=4))
        for key, row in (("four_crops", "four crops, as in the paper"), ("padding", "padding to a multiple")):
            if "no_multiple_of_4" in m:
                value = m["no_multiple_of_4"][key]
                found.append(Figure(table=CROPPING, row=row, column="PSNR, dB", value=value, digits=3))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_write(parser)
    options = parser.parse_args()
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
    finish("imdn", figures_of(results), options.write, results)


if __name__ == "__main__":
    main()
