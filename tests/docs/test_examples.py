"""What the pages tell people to type works: commands and options exist, and the code of the app runs."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools" / "site"))

from command_reference import commands  # noqa: E402

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_commands_and_options_on_a_page_exist(page: Path) -> None:
    options = {path: {o for p in each.params for o in p.opts} for path, each in commands()}
    for line in re.findall(r"^    (edgec .*)$", page.read_text(encoding="utf-8"), re.M):
        words = shlex.split(line, comments=True)
        command = " ".join(words[:2])
        if words[1].isupper():  # `edgec COMMAND --help`
            continue
        assert command in options, line
        unknown = [
            w
            for w in words[2:]
            if w.startswith("-") and w.partition("=")[0] not in {*options[command], "--help"}
        ]
        assert not unknown, line


def artifact(path: Path) -> None:
    """A graph that always finds one box of class 1 in an input of 320 x 320 pixels."""
    contract = {
        "classes": ["cat", "dog"],
        "input": {"name": "images", "shape": [1, 3, 320, 320], "scale": 1 / 255},
    }
    values = {
        "boxes": np.array([[20, 20, 60, 40]], np.float32), "scores": np.array([0.75], np.float32),
        "labels": np.array([1], np.int64), "image": np.array([0], np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
        for name, value in values.items()
    ]
    outputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in values.items()
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 320, 320])
    model = helper.make_model(
        helper.make_graph(nodes, "found", [images], outputs),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    helper.set_model_props(model, {"edgec.contract": json.dumps(contract)})
    onnx.save(model, str(path))


def test_the_code_of_the_app_gives_boxes_in_pixels_of_the_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "using-an-artifact.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.S)
    assert code is not None
    artifact(tmp_path / "model.int8.onnx")
    Image.new("RGB", (640, 160)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(code[1], {})
    assert capsys.readouterr().out == "dog 0.75 40 10 120 20\n"
