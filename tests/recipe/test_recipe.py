"""Recipes: every problem at once, with line, value and remedy; strict YAML; overrides."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.core.errors import RecipeError
from edgec.recipe import Prune, Recipe, load
from edgec.recipe.yaml_source import MAX_BYTES, scalar, shipped_recipes
from edgec.run.rundir import dump

GOOD = """\
name: tiny
task: detection
data: {format: signs, input: [64, 64]}
network: {arch: yolov4_tiny}
stages:
  prune:
    keep_params: 0.5
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(tmp_path: Path, text: str, overrides: tuple[str, ...] = ()) -> str:
    with pytest.raises(RecipeError) as caught:
        load(write(tmp_path, text), overrides)
    return str(caught.value)


def test_a_good_recipe_reads_and_writes_back_to_itself(tmp_path: Path) -> None:
    recipe = load(write(tmp_path, GOOD))
    assert isinstance(recipe.stages["prune"], Prune)
    assert recipe.stages["prune"].keep_params == 0.5
    again = load(write(tmp_path, dump(recipe)))
    assert again == recipe


def test_all_problems_are_reported_at_once_with_line_value_and_remedy(tmp_path: Path) -> None:
    text = GOOD.replace("keep_params: 0.5", "keep_parms: 0.5\n    round_to: many\n  distil: {epochs: 3}")
    told = problems(tmp_path, text + "gates: {max_dorp: 0.1}\n")
    assert "r.yaml:7 stages.prune.keep_parms" in told and "did you mean 'keep_params'?" in told
    assert "r.yaml:8 stages.prune.round_to" in told and "'many'" in told
    assert "r.yaml:9 stages.distil" in told
    assert "gates.max_dorp" in told and "did you mean 'max_drop'?" in told


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("name: a\nname: b\n", "is given twice"),
        ("a: &x 1\nb: *x\n", "alias or anchor"),
        ("a: .nan\n", "must be a finite number"),
        ("a: .inf\n", "must be a finite number"),
        ("a: !!python/object:os.system x\n", "tag"),
        ("[1, 2]\n", "not a mapping"),
        ("a: b: c\n", "not YAML"),
        ("a: 1\n---\nb: 2\n", "second document"),
        ("a: " + "[" * 40 + "]" * 40 + "\n", "nested deeper"),
        ("? [x, y]\n: 1\n", "key that is not text"),
        ("a: \x01\n", "not YAML"),
        ("", "not a mapping"),
    ],
)
def test_tricks_of_yaml_are_refused(tmp_path: Path, bad: str, told: str) -> None:
    assert told in problems(tmp_path, bad)


def test_an_oversize_recipe_is_refused(tmp_path: Path) -> None:
    assert str(MAX_BYTES) in problems(tmp_path, GOOD + "# " + "x" * MAX_BYTES)


def test_a_recipe_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(RecipeError, match="UTF-8"):
        load(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("22:30", "22:30"),
        ("1e-3", 1e-3),
        ("0.5", 0.5),
        ("7", 7),
        ("true", True),
        ("~", None),
        ("012", 12),
        (".5", 0.5),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    assert scalar(text) == value and type(scalar(text)) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_finite_number_reads_back(number: float) -> None:
    assert scalar(repr(number)) == number


def test_overrides_reach_nested_keys_and_name_themselves_in_errors(tmp_path: Path) -> None:
    recipe = load(write(tmp_path, GOOD), ["stages.prune.keep_params=0.25", "data.input=[96, 128]", "seed=7"])
    assert recipe.stages["prune"].keep_params == 0.25  # type: ignore[union-attr]
    assert recipe.data.input == (96, 128) and recipe.seed == 7
    told = problems(tmp_path, GOOD, ("stages.prune.keep_params=2", "nonsense", "seed.x=1"))
    assert "nonsense" in told and "is not key=value" in told
    assert "seed.x" in problems(tmp_path, GOOD + "seed: 1\n", ("seed.x=1",))
    assert "override stages.prune.keep_params" in problems(tmp_path, GOOD, ("stages.prune.keep_params=2",))


def test_input_must_fit_the_strides(tmp_path: Path) -> None:
    assert "multiples of 32" in problems(tmp_path, GOOD.replace("[64, 64]", "[60, 64]"))


def test_two_targets_are_refused(tmp_path: Path) -> None:
    assert "one target" in problems(tmp_path, GOOD + "    keep_macs: 0.5\n")


def test_a_missing_recipe_names_the_nearest_shipped_one() -> None:
    with pytest.raises(RecipeError, match=r"did you mean detector\.yaml"):
        load("detecter.yaml")


def test_paths_are_resolved_from_the_recipe_and_variables_must_be_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = GOOD.replace("{arch: yolov4_tiny}", "{arch: yolov4_tiny, weights: w.safetensors}")
    recipe = load(write(tmp_path, text))
    assert recipe.network.weights == tmp_path / "w.safetensors"
    monkeypatch.delenv("NO_SUCH_PLACE", raising=False)
    assert "NO_SUCH_PLACE is not set" in problems(tmp_path, text.replace("w.safe", "$NO_SUCH_PLACE/w.safe"))


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_are_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEC_DATA", "data")
    assert isinstance(load(name), Recipe)


def test_checking_a_recipe_does_not_import_torch() -> None:
    code = "import sys, edgec.recipe as r; r.load('detector'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_integers_that_cannot_work_out_are_reported_before_anything_trains(tmp_path: Path) -> None:
    text = GOOD + "  qad: {epochs: 1}\n"
    assert "stages.qad: put a quantize stage before it" in problems(tmp_path, text)
    text = GOOD + "  quantize: {activation_bits: 4}\n  export: {}\n"
    assert "no runtime here has 4-bit activations" in problems(tmp_path, text)
    text = GOOD + "  quantize: {}\n  export: {precisions: [codebook]}\n"
    assert "codebook needs weight_bits of 4 or fewer" in problems(tmp_path, text)
    text = GOOD + "  quantize: {average_bits: 3}\n"
    assert "set weight_bits: 4" in problems(tmp_path, text)
    text = GOOD + "  quantize: {bucket: 256}\n"
    assert "give weights_only: true" in problems(tmp_path, text)
    text = GOOD + "  quantize: {weights_only: true}\n  export: {precisions: [int8]}\n"
    assert "take codebook, not int8" in problems(tmp_path, text)
    text = GOOD + "  quantize: {weights_only: true, bias_correction: true}\n"
    assert "needs no calibration" in problems(tmp_path, text)
    text = (
        GOOD + "  quantize: {weight_bits: 4}\n  qad: {epochs: 1}\n  export: {precisions: [int8, codebook]}\n"
    )
    assert load(write(tmp_path, text)).stages["qad"].kind == "qad"
