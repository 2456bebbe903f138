"""Super-resolution through every stage, the artifacts used, and the second run from the cache."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import edgec
from edgec.core.contract.superres import SuperresContract
from edgec.core.errors import StageError
from edgec.core.events import StageEnded
from edgec.run.plan import plan
from edgec.runtimes.artifact import predictor

pytestmark = pytest.mark.slow
Tree = dict[str, Any]


@pytest.fixture
def tiny() -> Tree:
    """A small IMDN on the built-in photographs; accuracy is not the point."""
    training = {"epochs": 1, "batch": 4, "optimizer": "adamw", "lr": 0.002}
    terms = [{"kind": "output"}, {"kind": "spatial_attention"}, {"kind": "affinity", "pool": 4}]
    return {
        "name": "tiny",
        "task": "superres",
        "data": {"format": "photographs", "scale": 2, "input": [32, 32], "patch": 16, "patches": 1},
        "network": {"arch": "imdn", "args": {"features": 16, "blocks": 1}},
        "stages": {
            "train": training,
            "sparsify": training,
            "prune": {"ratio": 0.3, "round_to": 2, "min_channels": 2},
            "distill": training | {"terms": terms},
            "quantize": {"images": 4, "sensitivity_images": 1, "max_drop": 5.0},
            "export": {"precisions": ["fp32", "int8"], "dynamic_size": True, "tile": [24, 40]},
            "profile": {
                "processes": 1, "threads": [1], "runtimes": ["onnxruntime"], "min_seconds": 0.05, "max_seconds": 0.1,
                "warmup_seconds": 0.0,
            },
        },
        "gates": {"max_drop": 5.0},
        "pictures": 1,
    }  # fmt: skip


def test_everything_comes_out_and_a_second_run_takes_it_from_the_cache(tiny: Tree) -> None:
    run = edgec.compress(tiny)
    assert run.kept and "PSNR lost by model.int8 on val in dB" in run.gates[0].promise
    for name in ("dense.fp32", "model.fp32", "model.int8", "model.fp32.tile", "model.int8.tile"):
        golden = np.load(run.artifacts / "golden" / f"{name}.npz")
        model = predictor(run.artifacts / f"{name}.onnx")
        np.testing.assert_allclose(model.run(golden["images"])[0], golden["image"], atol=1e-4)
        height, width = (24, 40) if name.endswith("tile") else (32, 32)
        assert golden["image"].shape == (1, 3, 2 * height, 2 * width)
        assert model.contract.input.shape == (1, 3, height, width)
        assert model.contract.dynamic_size is not name.endswith("tile")
        assert isinstance(model.contract, SuperresContract)
        assert (model.contract.factor, model.contract.radius) == (2, 1 + 4 + 1 + 1)
    quantized: Any = run.stages["quantize"].to_json()
    fusion = quantized["fusion"]
    assert fusion["integer"] == fusion["wanted"] > 0
    assert {f["layer"] for f in fusion["left_float"]} == {"blocks.0.cca.reduce", "blocks.0.cca.expand"}

    profile: Any = run.stages["profile"].to_json()
    cells = {c["artifact"]: c["size"] for c in profile["cells"]}
    assert cells["model.int8"] == [[32, 32]] and cells["model.int8.tile"] == [[24, 40]]
    compared = {(s["artifact"], s["against"]) for s in profile["speedups"]}
    assert ("model.int8", "dense.fp32") in compared and ("model.int8.tile", "dense.fp32") not in compared
    assert ("model.int8.tile", "model.fp32.tile") in compared

    figures = edgec.evaluate(run.folder, tiny)
    export: Any = run.stages["export"].to_json()
    exported = export["artifacts"]
    assert figures["model.int8"].flat() == pytest.approx(exported["model.int8"]["val"])
    tile, whole = (figures[f"model.fp32{end}"]["psnr"] for end in (".tile", ""))
    assert tile == pytest.approx(whole, abs=0.5)  # attention sees tiles, not the image
    report = json.loads((run.folder / "report.json").read_text(encoding="utf-8"))
    text = (run.folder / "report.md").read_text(encoding="utf-8")
    assert f"{report['out']['val']['psnr']:.3f}" in text and "PSNR dB" in text and "mAP" not in text
    assert "data:image/png;base64" in (run.folder / "report.html").read_text(encoding="utf-8")

    ended: list[StageEnded] = []
    edgec.compress(tiny, listeners=[lambda e: ended.append(e) if isinstance(e, StageEnded) else None])
    assert {e.stage: e.cached for e in ended} == {name: name != "profile" for name in tiny["stages"]}


def test_the_plan_names_groups_and_cost(tiny: Tree) -> None:
    text = "\n".join(plan(tiny | {"stages": {"prune": tiny["stages"]["prune"]}}))
    assert "train 9 images" in text and "group blocks_0" in text and "expected" in text


def test_a_tile_that_the_network_cannot_take_is_refused(tiny: Tree) -> None:
    tiny["data"] |= {"enlarged": True, "input": [16, 16]}
    tiny["network"]["args"] |= {"variant": "as"}
    tiny["stages"] = {"export": {"precisions": ["fp32"], "tile": [24, 42]}}
    with pytest.raises(StageError, match=r"tile \[24, 42\].*multiples of 4"):
        edgec.compress(tiny)
