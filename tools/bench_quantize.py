"""What each way to fewer bits costs and brings: `python tools/bench_quantize.py`, one JSON line at the end.

For a detector, a small detector and a super-resolution network, from the same float network: onnxruntime's
`quantize_static` as called by default, edgec's post-training int8, Neural Compressor's calibration, training with
quantization at 8 bits (QAT), and 4-bit codebooks with uniform, k-means and learned centroids. Accuracy in onnxruntime on the test
split, bytes, and latency of all artifacts of a network in turns, in one run. Data and weights from $EDGEC_DATA; the BCCD
detectors are trained by their recipe when their folders are not given (25 minutes).

    --subjects imdn_x4,voc,bccd,bccd_small    --bccd FOLDER --bccd-small FOLDER (networks at rest)    --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from results_file import add_write, data_folder, finish, name_data_folder
from results_schema import Figure

from edgec import compress
from edgec.bench.files import profile_artifacts
from edgec.core.events import Events
from edgec.core.predictor import Predictor
from edgec.core.results.artifact_id import artifact_named
from edgec.onnx.session import OnnxSession
from edgec.recipe import Profile, load
from edgec.run.task import make_task
from edgec.runtimes.artifact import predictor

DATA = data_folder()
CALIBRATION_IMAGES = 64
TRAINED = {"batch": 4, "ema_decay": 0.98}
ITSELF = [{"kind": "logits", "temperature": 2, "weight": 1.0}, {"kind": "boxes", "weight": 2.0}]

ROUTES: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {  # quantize stage, qad stage
    "ptq": ({"calibration": "percentile"}, None),
    "ptq bias corrected": ({"bias_correction": True}, None),
    "neural-compressor": ({"backend": "neural-compressor"}, None),
    "qad int8": ({}, {}),
    "4 bit, k-means, no training": ({"weight_bits": 4}, None),
    "4 bit, learned": ({"weight_bits": 4}, {}),
    "4 bit, uniform": ({"weight_bits": 4, "points": "uniform"}, {"learn_points": False}),
    "4 bit, k-means": ({"weight_bits": 4}, {"learn_points": False}),
    "4 bit, buckets of 256, activations in float": (
        {"weight_bits": 4, "weights_only": True, "bucket": 256},
        {},
    ),
    "4 bit, points alone": ({"weight_bits": 4}, {"train_weights": False}),
}
ACCURACY = "Accuracy (BCCD: mAP50; IMDN: PSNR, dB)"  # tables of the results page, and their rows by label
SPEED = "Size and speed"
ROWS = {
    "fp32": "fp32",
    "onnxruntime default": "onnxruntime `quantize_static`, default options",
    "ptq": "PTQ",
    "ptq bias corrected": "PTQ, bias correction",
    "neural-compressor": "PTQ, Neural Compressor's ranges",
    "qad int8": "QAT, int8",
    "4 bit, k-means, no training": "4 bits, k-means, no training",
    "4 bit, uniform": "4 bits, uniform centroids, QAT",
    "4 bit, k-means": "4 bits, fixed k-means centroids, QAT",
    "4 bit, points alone": "4 bits, only centroids trained",
    "4 bit, learned": "4 bits, learned centroids, QAT (codebook)",
}
SPEED_ROWS = {
    "onnxruntime default": "speed-up over fp32, 1 thread: `quantize_static`", "ptq": "PTQ", "qad int8": "QAT, int8",
    "4 bit, learned codebook": "codebook", "fp16": "fp16, 1 thread",
}  # fmt: skip
TITLES = {"bccd": "BCCD dense", "bccd_small": "BCCD small", "imdn_x4": "IMDN x4", "voc": "yolo-fastest-xl"}
SUBJECTS: dict[str, dict[str, Any]] = {
    "imdn_x4": {
        "recipe": "imdn_x4",
        "keep_float": ["fea_conv", "upsampler"],  # by their sensitivity: 4 % of the time
        "data": {"data.patch": 32, "data.patches": 1},
        "train": {
            **TRAINED,
            "epochs": 12,
            "lr": 2e-4,
            "task_loss": 0.1,
            "terms": [{"kind": "output", "weight": 1.0}],
        },
    },
    "voc": {
        "recipe": "voc_yolo_fastest_xl",
        "keep_float": [],
        "data": {"data.train": "val2012"},
        "train": {**TRAINED, "batch": 16, "epochs": 1, "lr": 3e-5, "task_loss": 0.1, "terms": ITSELF},
        "routes": ("ptq", "ptq bias corrected", "neural-compressor", "qad int8"),
    },
    "bccd": {
        "recipe": "bccd",
        "keep_float": ["backbone.stem.conv"],
        "data": {},
        "train": {**TRAINED, "batch": 8, "epochs": 5, "lr": 5e-5, "task_loss": 0.2, "terms": ITSELF},
    },
    "bccd_small": {
        "recipe": "bccd",
        "keep_float": ["backbone.stem.conv"],
        "data": {},
        "train": {**TRAINED, "batch": 8, "epochs": 5, "lr": 5e-5, "task_loss": 0.2, "terms": ITSELF},
    },
}


def source_of(name: str, networks: Mapping[str, Path | None], out: Path) -> dict[str, Any]:
    """The `network` of a subject's recipes. Trains the BCCD detectors where no folder was given."""
    tree = load(SUBJECTS[name]["recipe"]).model_dump(mode="json")["network"]
    if not name.startswith("bccd"):
        return tree
    folder = networks[name]
    if folder is None:
        whole = load("bccd").model_dump(mode="json")
        kept = ("train",) if name == "bccd" else ("train", "sparsify", "prune", "distill")
        whole |= {"name": name, "stages": {k: whole["stages"][k] for k in kept}, "gates": {}}
        folder = compress(whole, run=out / f"train-{name}").folder / "artifacts" / "network"
    return {"arch": tree["arch"], "weights": str(folder)}


def recipe_of(subject: str, network: Mapping[str, Any], quantize: Any, train: Any) -> dict[str, Any]:
    """A recipe that takes one route with one network."""
    given = SUBJECTS[subject]
    tree = load(given["recipe"], given["data"]).model_dump(mode="json")
    stages: dict[str, Any] = {
        "quantize": {
            "images": CALIBRATION_IMAGES, "sensitivity_images": 2, "max_float_layers": 0, "batch": 8,
            "keep_float": given["keep_float"], **quantize,
        }
    }  # fmt: skip
    if train is not None:
        stages["qad"] = given["train"] | train
    few = quantize.get("weight_bits") == 4
    precisions = ["fp32", "int8", "codebook"] if few else ["fp32", "fp16", "int8"]
    if quantize.get("weights_only"):
        precisions = ["fp32", "codebook"]
    stages["export"] = {"precisions": precisions, "dynamic_size": tree["task"] == "superres", "dense": False}
    return tree | {"network": dict(network), "stages": stages, "gates": {}, "pictures": 0, "name": subject}


def naive(fp32: Path, path: Path, images: np.ndarray) -> None:
    """onnxruntime's static quantization, called as its documentation's first example does."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> Any:  # None at the end, although its type says dict
            image = next(self.left, None)
            return None if image is None else {"images": image[None]}

    quantize_static(str(fp32), str(path), Images())


def measure(name: str, networks: Mapping[str, Path | None], out: Path, threads: list[int]) -> dict[str, Any]:
    """All routes of one subject."""
    network = source_of(name, networks, out)
    found: dict[str, dict[str, Any]] = {}
    files: dict[str, Path] = {}
    for route, (quantize, train) in ROUTES.items():
        if route not in SUBJECTS[name].get("routes", ROUTES):
            continue
        run = compress(recipe_of(name, network, quantize, train), run=out / name / _slug(route))
        figures = json.loads((run.folder / "report.json").read_text())["artifacts"]
        for precision in ("fp32", "fp16", "int8", "codebook"):
            entry = figures.get(f"model.{precision}")
            floating = precision in ("fp32", "fp16")  # the same after every way that does not train
            if entry is None or (floating and route != "ptq"):
                continue
            label = precision if floating else f"{route} codebook" if precision == "codebook" else route
            files[label] = run.folder / "artifacts" / f"model.{precision}.onnx"
            found[label] = {
                "bytes": entry["bytes"],
                **_scores(entry["test"]),
                **(
                    {"integer": entry["fusion"]["integer"], "wanted": entry["fusion"]["wanted"]}
                    if "fusion" in entry
                    else {}
                ),
            }
        print(name, route, found.get(route), file=sys.stderr, flush=True)
    task = make_task(load(SUBJECTS[name]["recipe"], SUBJECTS[name]["data"]), Events(listeners=()))
    files["onnxruntime default"] = out / name / "default.int8.onnx"
    naive(files["fp32"], files["onnxruntime default"], task.images("train", CALIBRATION_IMAGES))
    session = OnnxSession(files["onnxruntime default"], threads=2)
    contract = predictor(files["fp32"]).contract
    scores = task.evaluate(Predictor(lambda x: session.run({"images": x}), contract, 1), "test")
    found["onnxruntime default"] = {
        "bytes": files["onnxruntime default"].stat().st_size,
        **_scores(scores.flat()),
    }
    timed = ("fp32", "fp16", "onnxruntime default", "ptq", "qad int8", "4 bit, learned codebook")
    timed = tuple(label for label in timed if label in files)
    linked: list[Path] = []
    for label in timed:
        linked.append(out / name / "timed" / f"{_slug(label)}.onnx")
        linked[-1].parent.mkdir(exist_ok=True)
        linked[-1].write_bytes(files[label].read_bytes())
    config = Profile(runtimes=("onnxruntime",), threads=tuple(threads), processes=5)
    shape = {"images": list(task.example().shape)}  # sizes that an artifact leaves open
    profile = profile_artifacts(linked, config, Events(listeners=()), shape).first
    for label, path in zip(timed, linked, strict=True):
        for count in threads:
            ratio = profile.speedup_of(artifact_named(path.stem), artifact_named("fp32"), threads=count)
            if ratio is not None:
                interval = [round(r, 2) for r in (ratio.ratio, ratio.ci_low, ratio.ci_high)]
                found[label][f"speed_{count}"] = interval
    return {"machine": profile.verdict, "routes": found}


def _slug(label: str) -> str:
    return label.replace(" ", "_").replace(",", "")


def _scores(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """The headline figures."""
    kept = ("map50", "map", "psnr", "psnr/set5", "psnr/set14")
    return {k: round(value, 4) for k in kept if (value := metrics.get(k)) is not None}


def figures_of(measured: Mapping[str, Mapping[str, Any]]) -> list[Figure]:
    """The cells of the results page: accuracy on the test split, bytes, speed with one thread."""
    found: list[Figure] = []
    for name, subject in measured.items():
        title = TITLES[name]
        for label, m in subject["routes"].items():
            if label in ROWS and "map50" in m:
                value = round(100 * m["map50"], 2)
                found.append(
                    Figure(table=ACCURACY, row=ROWS[label], column=f"{title}, test", value=value, digits=2)
                )
            elif label in ROWS:
                for key, part in (("psnr/set5", "Set5"), ("psnr/set14", "Set14")):
                    value = round(m[key], 3)
                    found.append(
                        Figure(
                            table=ACCURACY, row=ROWS[label], column=f"{title}, {part}", value=value, digits=3
                        )
                    )
            sizes = {
                "fp32": "fp32, bytes",
                "qad int8": "int8, bytes",
                "4 bit, learned codebook": "codebook, bytes",
            }
            if label in sizes:
                found.append(Figure(table=SPEED, row=sizes[label], column=title, value=m["bytes"]))
            if label in SPEED_ROWS and "speed_1" in m:
                ratio, low, high = m["speed_1"]
                note = "" if subject["machine"] == "quiet" else "busy"
                figure = Figure(
                    table=SPEED,
                    row=SPEED_ROWS[label],
                    column=title,
                    value=ratio,
                    digits=2,
                    low=low,
                    high=high,
                    note=note,
                )
                found.append(figure)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", default=",".join(SUBJECTS))
    parser.add_argument("--bccd", type=Path)
    parser.add_argument("--bccd-small", type=Path)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_quantize"))
    add_write(parser)
    given = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"{DATA} does not exist; export EDGEC_DATA=FOLDER")
    name_data_folder()
    networks = {"bccd": given.bccd, "bccd_small": given.bccd_small}
    threads = [int(n) for n in given.threads.split(",")]
    names = given.subjects.split(",")
    found = {name: measure(name, networks, given.out, threads) for name in names}
    finish("quantization", figures_of(found), given.write, found)


if __name__ == "__main__":
    main()
