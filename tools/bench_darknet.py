"""Accuracy of imported Darknet networks on the VOC test split, in torch and in onnxruntime after export.

    EDGEC_DATA=data python tools/bench_darknet.py

Evaluates yolo-fastest and yolo-fastest-xl (VOC weights); ends with one JSON line. A few minutes on one core.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from results_file import add_write, finish, name_data_folder
from results_schema import Figure

from edgec.core.errors import RecipeError
from edgec.core.results.artifact_id import ArtifactId
from edgec.core.results.export import ExportResult
from edgec.recipe import load
from edgec.run.pipeline import compress

NAMES = ("yolo-fastest-xl", "yolo-fastest")


def figures_of(measured: dict[str, dict[str, float]]) -> list[Figure]:
    """The cells of the results page."""
    return [
        figure
        for name, m in measured.items()
        for figure in (
            Figure(row=name, column="parameters", value=m["parameters"]),
            Figure(row=name, column="mAP50, torch", value=round(100 * m["map50_torch"], 2), digits=2),
            Figure(
                row=name, column="mAP50, onnxruntime", value=round(100 * m["map50_onnxruntime"], 2), digits=2
            ),
            Figure(row=name, column="SNR of the export", value=round(m["snr_db"]), unit="dB"),
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_write(parser)
    options = parser.parse_args()
    folder = name_data_folder() / "weights" / "yolo-fastest_voc"
    if not folder.is_dir():
        sys.exit(f"no weights at {folder}; set EDGEC_DATA")
    figures: dict[str, dict[str, float]] = {}
    for name in NAMES:
        try:
            recipe = load("voc_yolo_fastest_xl.yaml")
        except RecipeError as error:
            sys.exit(str(error))
        tree = recipe.model_dump(mode="json") | {
            "name": name,
            "network": {
                "arch": "darknet",
                "cfg": str(folder / f"{name}.cfg"),
                "weights": str(folder / f"{name}.weights"),
            },
            "stages": {"export": {"precisions": ["fp32"], "dense": False}},
            "gates": {},
            "pictures": 0,
        }
        tree["data"] |= {"train": "test", "val": "test"}
        with tempfile.TemporaryDirectory() as scratch:
            os.environ["EDGEC_STORE"] = str(Path(scratch) / "store")
            exported = compress(tree, run=Path(scratch) / "run").stages["export"].result
        assert isinstance(exported, ExportResult)
        artifact = exported.artifacts[ArtifactId("model", "fp32")]
        assert artifact.test is not None
        figures[name] = {
            "parameters": artifact.params,
            "map50_torch": round(artifact.torch["test"], 4),
            "map50_onnxruntime": round(artifact.test["map50"], 4),
            "map50_11point_onnxruntime": round(artifact.test["map50_11point"], 4),
            "snr_db": artifact.snr_db or 0.0,
        }
        print(name, figures[name], flush=True)
    finish("darknet", figures_of(figures), options.write, figures)


if __name__ == "__main__":
    main()
