"""`edgec upscale`: images, folders and videos, from the artifact alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import edgec
from edgec.cli.app import app
from edgec.core.contract.detection import DetectionContract, DetectionInput, Head
from edgec.core.contract.superres import SuperresContract, SuperresInput
from edgec.core.errors import DataError, RecipeError
from edgec.core.network import Network
from edgec.images.bicubic import bicubic_up
from edgec.onnx.export import to_onnx
from edgec.recipe import PhotographsData
from edgec.runtimes.artifact import predictor, write_artifact
from edgec.tasks.superres.task import SuperResolution
from edgec.tiles.contract import Prepared, prepare, upscaled
from edgec.tiles.upscale import Upscaler, parse_bytes

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """An artifact of a small network for x2: `artifact(dynamic=True, variant="standard")`."""
    folder = tmp_path_factory.mktemp("artifacts")

    def make(dynamic: bool = True, variant: str = "standard", enlarged: bool = False) -> Path:
        path = folder / f"{variant}-{dynamic}-{enlarged}.onnx"
        if not path.exists():
            args = {"scale": 2, "variant": variant, "features": 8, "blocks": 1}
            net = Network.initial("imdn", args, 0).build()
            data = PhotographsData(format="photographs", scale=2, input=(24, 32), enlarged=enlarged)
            task = SuperResolution(data, 0)
            multiple = int(net.multiple)  # type: ignore[arg-type]
            graph = to_onnx(net, task.example(), ["image"], size_multiple=multiple if dynamic else None)
            write_artifact(path, graph, task.contract(net).changed(dynamic_size=dynamic))
        return path

    return make


def picture(path: Path, height: int = 40, width: int = 52, mode: str = "RGB") -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
    data = np.random.default_rng(height).integers(0, 256, (height, width, channels), dtype=np.uint8)
    Image.fromarray(data.squeeze()).save(path)
    return data


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image.copy()


def test_what_is_written_is_what_the_network_gives(artifact: Make, tmp_path: Path) -> None:
    data = picture(tmp_path / "in" / "a.png")
    written = edgec.upscale(artifact(), [tmp_path / "in"], tmp_path / "out")
    made = np.asarray(opened(written[str(tmp_path / "in" / "a.png")]))
    np.testing.assert_array_equal(made, upscaled(predictor(artifact()), data))
    assert made.shape == (80, 104, 3)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png"]  # no part of a file is left


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("attention", ["local", "exact"])
def test_tiles_of_any_kind_stay_near_the_whole(artifact: Make, dynamic: bool, attention: str) -> None:
    model = Upscaler(artifact(dynamic), "300KB", attention, overlap=8)  # type: ignore[arg-type]
    low = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    assert len(model.tiles(90, 70).tiles) > 1
    whole = upscaled(predictor(artifact()), low).astype(int)
    off = np.abs(model(low) - whole)
    assert off.max() <= (1 if attention == "exact" else 8)


@pytest.mark.parametrize("size", [(7, 9), (24, 32), (25, 100)])
def test_a_fixed_size_takes_images_of_any_size(artifact: Make, size: tuple[int, int]) -> None:
    low = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert Upscaler(artifact(False))(low).shape == (size[0] * 2, size[1] * 2, 3)


def test_an_enlarged_input_and_a_grid_of_four(artifact: Make) -> None:
    low = np.random.default_rng(2).integers(0, 256, (17, 13, 3), dtype=np.uint8)
    made = Upscaler(artifact(variant="as", enlarged=True))(low)  # 34 x 26 is no multiple of 4
    assert made.shape == (34, 26, 3)


def test_alpha_and_grey_are_kept(artifact: Make, tmp_path: Path) -> None:
    clear = picture(tmp_path / "in" / "clear.png", mode="RGBA")
    picture(tmp_path / "in" / "grey.png", mode="L")
    written = edgec.upscale(artifact(), [tmp_path / "in"], tmp_path / "out")
    made = opened(written[str(tmp_path / "in" / "clear.png")])
    assert made.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(made)[:, :, 3], bicubic_up(clear[:, :, 3:], 2)[:, :, 0])
    assert opened(written[str(tmp_path / "in" / "grey.png")]).mode == "L"


def test_equal_names_and_broken_files_lose_nothing(artifact: Make, tmp_path: Path) -> None:
    picture(tmp_path / "one" / "a.png")
    picture(tmp_path / "two" / "a.png", 20, 20)
    (tmp_path / "two" / "bad.png").write_bytes(b"no image")
    (tmp_path / "two" / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(DataError) as told:
        edgec.upscale(artifact(), [tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    assert "bad.png" in str(told.value) and "bad.mp4" in str(told.value)
    sizes = {p.name: opened(p).size for p in (tmp_path / "out").iterdir()}
    assert sizes == {"a.png": (104, 80), "a-2.png": (40, 40)}


def test_a_video_keeps_its_frames_and_rate(artifact: Make, tmp_path: Path) -> None:
    source = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 12.0, (32, 24))
    if not writer.isOpened():
        pytest.skip("OpenCV writes no MJPG here")
    for value in (20, 120, 220):
        writer.write(np.full((24, 32, 3), value, np.uint8))
    writer.release()
    written = edgec.upscale(artifact(), [source], tmp_path / "out")
    made = cv2.VideoCapture(str(written[str(source)]))
    assert made.get(cv2.CAP_PROP_FRAME_COUNT) == 3 and made.get(cv2.CAP_PROP_FPS) == pytest.approx(12)
    assert made.read()[1].shape == (48, 64, 3)
    made.release()


def test_a_video_that_fails_leaves_no_part(
    artifact: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 12.0, (32, 24))
    if not writer.isOpened():
        pytest.skip("OpenCV writes no MJPG here")
    for _ in range(3):
        writer.write(np.zeros((24, 32, 3), np.uint8))
    writer.release()
    real, seen = Upscaler.__call__, []

    def fails_at_the_second(self: Upscaler, low: np.ndarray) -> np.ndarray:
        seen.append(low)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(self, low)

    monkeypatch.setattr(Upscaler, "__call__", fails_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        edgec.upscale(artifact(), [source], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def padded(x: np.ndarray, multiple: int, least: tuple[int, int] | None) -> np.ndarray:
    """An input [3, h, w] mirrored at the bottom and the right: sides are multiples, and not under `least`."""
    wanted = [
        max(-(-side // multiple) * multiple, low)
        for side, low in zip(x.shape[1:], least or (0, 0), strict=True)
    ]
    missing = [want - side for want, side in zip(wanted, x.shape[1:], strict=True)]
    return np.pad(x, ((0, 0), (0, missing[0]), (0, missing[1])), mode="symmetric")


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("enlarged", [False, True])
def test_inputs_are_prepared_part_by_part(scale: int, enlarged: bool) -> None:
    low = np.random.default_rng(scale).integers(0, 256, (23, 17, 3), dtype=np.uint8)
    fixed = SuperresContract(  # wider than any of the images, more than twice as wide as some
        input=SuperresInput(name="images", shape=(1, 3, 24, 120), scale=1 / 255), scale=scale, enlarged=enlarged,
        factor=1 if enlarged else scale, multiple=4, radius=1,
    )  # fmt: skip
    for dynamic in (True, False):
        contract = fixed.changed(dynamic_size=dynamic)
        whole = padded(prepare(low, contract), 4, None if dynamic else (24, 120))
        x = Prepared(low, contract)
        assert x.shape == whole.shape
        for top in range(0, whole.shape[1], 13):
            rows, columns = slice(top, top + 13), slice(top // 2, top // 2 + 31)
            rows, columns = (
                slice(*s.indices(n)[:2]) for s, n in zip((rows, columns), x.shape[1:], strict=True)
            )
            np.testing.assert_allclose(x[:, rows, columns], whole[:, rows, columns], atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2000, 3)])
def test_extreme_sizes(artifact: Make, size: tuple[int, int]) -> None:
    low = np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)
    made = Upscaler(artifact(), "1MB", "exact", overlap=8)(low).astype(int)
    whole = upscaled(predictor(artifact()), low)
    assert np.abs(made - whole).max() <= 1


def test_a_budget_too_small_for_one_tile(artifact: Make, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for dynamic in (True, False):
        with pytest.raises(RecipeError, match=r"0\.001MB is too little: .* takes 0\.\dMB"):
            edgec.upscale(artifact(dynamic), [tmp_path / "a.png"], tmp_path / "out", tile_memory="1KB")


def test_names_that_meet_and_inputs_are_not_overwritten(artifact: Make, tmp_path: Path) -> None:
    sizes = {"a.png": 10, "a.bmp": 11, "a-2.png": 12, "A.jpg": 13}
    for name, side in sizes.items():
        picture(tmp_path / "in" / name, side, side)
    written = edgec.upscale(artifact(), [tmp_path / "in"], tmp_path / "out")
    assert len({p.name.lower() for p in written.values()}) == 4
    for name, side in sizes.items():
        assert opened(written[str(tmp_path / "in" / name)]).size == (2 * side, 2 * side)
    with pytest.raises(RecipeError, match="would be overwritten"):
        edgec.upscale(artifact(), [tmp_path / "in"], tmp_path / "in")
    assert opened(tmp_path / "in" / "a.png").size == (10, 10)


def test_an_output_that_is_a_file(artifact: Make, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(RecipeError, match="cannot be written"):
        edgec.upscale(artifact(), [tmp_path / "a.png"], tmp_path / "out")


def test_truncated_and_deep_images(artifact: Make, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    picture(folder / "whole.png")
    data = (folder / "whole.png").read_bytes()
    (folder / "torn.png").write_bytes(data[: len(data) // 2])
    deep = np.random.default_rng(0).integers(0, 2**16, (9, 12), dtype=np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(np.zeros((9, 12, 4), np.uint8), "CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.zeros((9, 12), np.uint8)).convert("P").save(folder / "palette.png")
    with pytest.raises(DataError, match=r"torn\.png: is a broken image"):
        edgec.upscale(artifact(), [folder], tmp_path / "out")
    modes = {p.name: opened(p).mode for p in (tmp_path / "out").iterdir()}
    assert modes == {"whole.png": "RGB", "deep.png": "L", "cmyk.png": "RGB", "palette.png": "RGB"}


def test_exact_refuses_what_moments_cannot_give(artifact: Make, tmp_path: Path) -> None:
    highest = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), Highest(), nn.PixelShuffle(2)).eval()
    graph = to_onnx(highest, torch.zeros(1, 3, 16, 16), ["image"], size_multiple=1)
    path = tmp_path / "highest.onnx"
    write_artifact(path, graph, predictor(artifact()).contract)
    with pytest.raises(RecipeError, match="exact cannot follow ReduceMax"):
        Upscaler(path, attention="exact")
    Upscaler(path, attention="local")


class Highest(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.amax((2, 3), keepdim=True)


def test_the_command(artifact: Make, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    run = CliRunner().invoke(
        app, ["upscale", str(artifact()), str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]
    )
    assert run.exit_code == 0, run.output
    assert "a.png" in run.output and opened(tmp_path / "out" / "a.png").size == (104, 80)


def test_wrong_requests(artifact: Make, tmp_path: Path) -> None:
    for text in ("much", "-3MB", "0", "3 parsecs"):
        with pytest.raises(RecipeError, match="tile-memory"):
            parse_bytes(text)
    assert (parse_bytes("256MB"), parse_bytes("1.5 GiB"), parse_bytes(1000)) == (256 * 10**6, 3 * 2**29, 1000)
    with pytest.raises(RecipeError, match="attention"):
        Upscaler(artifact(), attention="both")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="does not exist"):
        edgec.upscale(artifact(), [tmp_path / "nothing.png"], tmp_path / "out")


def test_a_detector_is_not_upscaled_but_named_with_its_command(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    detector = tmp_path / "d.onnx"
    graph = to_onnx(torch.nn.Conv2d(3, 3, 1).eval(), torch.zeros(1, 3, 8, 8), ["head0"])
    shape = DetectionInput(name="images", shape=(1, 3, 8, 8), scale=1.0, fit="stretch", pad_value=0)
    head = Head(((8.0, 8.0),), 8, 1.0, 1)
    write_artifact(detector, graph, DetectionContract(input=shape, classes=("a",), heads=(head,)))
    run = CliRunner().invoke(
        app, ["upscale", str(detector), str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]
    )
    assert isinstance(run.exception, RecipeError) and run.exception.exit_code == 2
    assert "d.onnx: is an artifact for detection, not for superres; use it with `edgec detect`" in str(
        run.exception
    )


def test_an_upscaler_detects_nothing_and_is_named_with_its_command(artifact: Make, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    run = CliRunner().invoke(
        app, ["detect", str(artifact()), str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]
    )
    assert isinstance(run.exception, RecipeError) and run.exception.exit_code == 2
    assert "is an artifact for superres, not for detection; use it with `edgec upscale`" in str(run.exception)
    assert not (tmp_path / "out").exists()
