"""What tiles cost: `python tools/bench_crops.py [--sides 250,500,1000] [--threads 2]`, one JSON line at the end.

Images of side x side pixels through IMDN x4, each way in a fresh process: growth of the peak memory, seconds, and the
difference from the whole image. The official weights are taken from $EDGEC_DATA, or random ones. The whole image takes
about ten gigabytes in onnxruntime; --skip-whole leaves it out. With the data there, PSNR on Set14 too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from results_file import add_write, data_folder, finish
from results_schema import Figure

DATA = data_folder()
BUDGET = "256MB"
WAYS = (
    "torch whole",
    "onnxruntime whole",
    "four crops, one batch",
    "four crops, in turn",
    "tiles, local",
    "tiles, exact",
)
ROWS = {
    "torch whole": "torch, whole", "onnxruntime whole": "onnxruntime, whole",
    "four crops, one batch": "four crops as one batch (the paper's)", "four crops, in turn": "four crops in turn",
    "tiles, local": f"`--tile-memory {BUDGET}`", "tiles, exact": f"`--tile-memory {BUDGET} --attention exact`",
}  # fmt: skip
PAGE_SIDE = "1000"  # the size that the results page shows
LEFT_OUT = ("torch whole", "onnxruntime whole", "four crops, one batch")


def artifact(folder: Path) -> Path:
    """An fp32 artifact of IMDN x4 for any size and batch."""
    from edgec.core.network import Network
    from edgec.onnx.export import to_onnx
    from edgec.recipe import PhotographsData
    from edgec.run.initial_network import own_names, read_weights
    from edgec.runtimes.artifact import write_artifact
    from edgec.tasks.superres.task import SuperResolution

    network = Network.initial("imdn", {"scale": 4}, 0)
    net = network.build()
    weights = DATA / "weights" / "imdn" / "IMDN_x4.pth"
    if weights.is_file():
        net.load_state_dict(own_names("imdn", net, read_weights(weights), weights))
    network.with_weights(net).save(folder / "network")
    task = SuperResolution(PhotographsData(format="photographs", scale=4), 0)
    graph = to_onnx(net, task.example(), ["image"], dynamic_batch=True, size_multiple=1)
    contract = task.contract(net).changed(dynamic_batch=True)
    write_artifact(folder / "x4.onnx", graph, contract)
    return folder / "x4.onnx"


def photograph(side: int) -> np.ndarray:
    """An image uint8 [side, side, 3] with real detail: scikit-image's retina, tiled where it is too small."""
    from edgec.images.reading import photograph as read

    image = read("retina.jpg")
    times = -(-side // min(image.shape[:2]))
    return np.tile(image, (times, times, 1))[:side, :side]


def peak_bytes() -> int:
    """The most memory that this process held. Not `ru_maxrss`, which begins with that of the process before `exec`."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def one_way(way: str, folder: Path, side: int, threads: int) -> dict[str, Any]:
    """Run one way in this process: {"seconds", "growth_mb"}; its output is written for the comparison."""
    import time

    import psutil
    import torch

    from edgec.core.contract.superres import SuperresContract
    from edgec.runtimes.artifact import predictor
    from edgec.tiles.contract import as_bytes, prepare
    from edgec.tiles.crops import four_crops
    from edgec.tiles.upscale import Upscaler

    torch.set_num_threads(threads)
    path, low = folder / "x4.onnx", photograph(side)
    if way == "torch whole":
        from edgec.core.network import Network

        net = Network.load(folder / "network").build()
        contract = SuperresContract.of(predictor(path).contract, str(path))

        def run(image: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                made = net(torch.from_numpy(prepare(image, contract)[None]))
            return as_bytes(made.numpy()[0], contract).transpose(1, 2, 0)

    elif way.startswith("four crops"):
        model = predictor(path, threads)
        contract = SuperresContract.of(model.contract, str(path))

        def run(image: np.ndarray) -> np.ndarray:
            x = prepare(image, contract)
            made = four_crops(lambda part: model.run(part)[0], x, 4, batch=way.endswith("batch"))
            return as_bytes(made, contract).transpose(1, 2, 0)

    elif way == "onnxruntime whole":
        model = predictor(path, threads)
        contract = SuperresContract.of(model.contract, str(path))

        def run(image: np.ndarray) -> np.ndarray:
            made = model.run(prepare(image, contract)[None])[0][0]
            return as_bytes(made, contract).transpose(1, 2, 0)

    else:
        upscaler = Upscaler(path, BUDGET, "exact" if way.endswith("exact") else "local", threads=threads)

        def run(image: np.ndarray) -> np.ndarray:
            return upscaler(image)

    before = psutil.Process().memory_info().rss
    began = time.perf_counter()
    output = run(low)
    seconds = time.perf_counter() - began
    peak = peak_bytes()
    np.save(folder / f"{way}.npy", output)
    return {"seconds": round(seconds, 2), "growth_mb": round((peak - before) / 1e6)}


def on_set14(path: Path, threads: int) -> dict[str, float]:
    """Mean PSNR on Set14: whole, and in tiles of 64 pixels (the images are too small for the budget's tiles)."""
    from edgec.recipe import FolderData
    from edgec.tasks.superres.metrics import psnr_y
    from edgec.tasks.superres.task import SuperResolution
    from edgec.tiles.upscale import Upscaler

    sets = {"set14": {"hr": "eval/Set14/HR", "lr": "eval/Set14/LR_x4"}}
    data = FolderData.model_validate({"format": "images", "root": DATA / "sr", "train": sets, "val": sets})
    opened = SuperResolution(data, 0).opened("val")
    ways = {
        "whole": Upscaler(path, "100GB", threads=threads),
        "local": Upscaler(path, "20MB", "local", threads=threads),
        "exact": Upscaler(path, "60MB", "exact", threads=threads),
    }
    found: dict[str, float] = {}
    for name, model in ways.items():
        scores = [psnr_y(model(low), high, 4) for low, high in (opened[i] for i in range(len(opened)))]
        found[name] = round(float(np.mean(scores)), 4)
    return found


def all_ways(path: Path, folder: Path, side: int, threads: int, skip_whole: bool) -> dict[str, Any]:
    """Figures of every way on an image of one size, each in a separate process."""
    found: dict[str, Any] = {}
    reference = folder / "onnxruntime whole.npy"
    reference.unlink(missing_ok=True)
    for way in WAYS:
        if skip_whole and way in LEFT_OUT:
            continue
        arguments = ["--way", way, "--folder", str(folder), "--side", str(side), "--threads", str(threads)]
        done = subprocess.run(
            [sys.executable, __file__, *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode:
            found[way] = {"failed": done.stderr.strip().splitlines()[-1:] or [done.returncode]}
        else:
            found[way] = json.loads(done.stdout.splitlines()[-1])
            if reference.is_file():
                off = np.load(folder / f"{way}.npy").astype(float) - np.load(reference)
                found[way]["largest_difference"] = float(np.abs(off).max())  # grey levels
        print(f"{side:5} {way:24} {found[way]}", flush=True)
    return found


def figures_of(results: dict[str, Any]) -> list[Figure]:
    """The cells of the results page."""
    found: list[Figure] = []
    for way, m in results["sides"].get(PAGE_SIDE, {}).items():
        if "failed" in m:
            continue
        found.append(
            Figure(row=ROWS[way], column="growth of the peak memory", value=m["growth_mb"], unit="MB")
        )
        found.append(Figure(row=ROWS[way], column="seconds", value=round(m["seconds"], 1), digits=1))
        if "largest_difference" in m:
            column = "largest difference from the whole, grey levels"
            found.append(Figure(row=ROWS[way], column=column, value=m["largest_difference"]))
    for way, psnr in results.get("set14_psnr", {}).items():
        title = "Set14 in tiles of a small budget"
        found.append(Figure(table=title, row=way, column="PSNR, dB", value=round(psnr, 3), digits=3))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", default="250,500,1000")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--skip-whole", action="store_true")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    add_write(parser)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(one_way(options.way, options.folder, options.side, options.threads)))
        return
    results: dict[str, Any] = {"threads": options.threads, "budget": BUDGET}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = artifact(folder)
        results["sides"] = {
            side: all_ways(path, folder, int(side), options.threads, options.skip_whole)
            for side in options.sides.split(",")
        }
        if (DATA / "sr" / "eval" / "Set14").is_dir():
            results["set14_psnr"] = on_set14(path, options.threads)
    finish("crops", figures_of(results), options.write, results)


if __name__ == "__main__":
    main()
