"""From torch to ONNX: the same numbers, names as in the network, and nothing else in the file."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgec.core.errors import StageError
from edgec.core.network import Network
from edgec.onnx.export import ExportedMish, to_onnx
from edgec.onnx.graph import initializers, layer_of
from edgec.onnx.parity import snr_db
from edgec.onnx.session import OnnxSession

EXAMPLE = torch.zeros(1, 3, 64, 64)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """YOLOv4-tiny whose batch norms do something."""
    made = Network.initial("yolov4_tiny", {"classes": 3, "width": 0.25}, seed=1).build()
    generator = torch.Generator().manual_seed(0)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.weight, 0.5, 1.5), (module.bias, -0.5, 0.5)):
                nn.init.uniform_(tensor, low, high, generator=generator)
            module.running_mean.uniform_(-0.2, 0.2, generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2.0, generator=generator)  # type: ignore[union-attr]
    return made


@pytest.fixture(scope="module")
def free(net: nn.Module) -> onnx.ModelProto:
    """With a free batch size."""
    return to_onnx(net, EXAMPLE, ["head0", "head1"], dynamic_batch=True)


@pytest.fixture(scope="module")
def fixed(net: nn.Module) -> onnx.ModelProto:
    return to_onnx(net, EXAMPLE, ["head0", "head1"])


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).random((count, 3, 64, 64), dtype=np.float32)


def expected(net: nn.Module, given: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        return [o.numpy() for o in net(torch.from_numpy(given))]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_dynamic_batch_gives_torchs_outputs(net: nn.Module, free: onnx.ModelProto, count: int) -> None:
    session = OnnxSession(free.SerializeToString())
    assert session.inputs == {"images": (None, 3, 64, 64)}
    assert session.outputs == ["head0", "head1"]
    for a, b in zip(expected(net, images(count)), session.run({"images": images(count)}), strict=True):
        assert a.shape == b.shape
        assert snr_db(a, b) > 90
        assert np.abs(a - b).max() < 1e-4 * np.abs(a).max()


def test_fixed_batch_gives_torchs_outputs_and_takes_no_other(net: nn.Module, fixed: onnx.ModelProto) -> None:
    session = OnnxSession(fixed.SerializeToString())
    assert session.inputs == {"images": (1, 3, 64, 64)}
    for a, b in zip(expected(net, images(1)), session.run({"images": images(1)}), strict=True):
        assert snr_db(a, b) > 90
    with pytest.raises(StageError, match="2 x 3 x 64 x 64, the artifact takes 1 x 3 x 64 x 64"):
        session.run({"images": images(2)})


def test_batch_norms_are_folded_and_weights_named_as_in_the_network(
    net: nn.Module, fixed: onnx.ModelProto
) -> None:
    assert set(Counter(n.op_type for n in fixed.graph.node)) == {
        "Conv",
        "LeakyRelu",
        "Concat",
        "MaxPool",
        "Resize",
    }
    convs = {n for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    assert {layer_of(n) for n in fixed.graph.node if n.op_type == "Conv"} == convs
    stored = initializers(fixed)
    for name in convs:
        assert stored[f"{name}.weight"].shape == net.get_submodule(name).weight.shape


def test_the_network_itself_is_not_changed(net: nn.Module) -> None:
    before = copy.deepcopy(net.state_dict())
    to_onnx(net, EXAMPLE, ["a", "b"])
    assert list(net.state_dict()) == list(before)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert any(isinstance(m, nn.BatchNorm2d) for m in net.modules())


def test_nothing_but_the_network_is_in_the_file(fixed: onnx.ModelProto) -> None:
    assert not fixed.graph.value_info
    assert not fixed.metadata_props
    items = (*fixed.graph.node, *fixed.graph.input, *fixed.graph.output, *fixed.graph.initializer)
    assert not any(item.metadata_props or item.doc_string for item in items)
    data = fixed.SerializeToString()
    assert str(Path(__file__).parents[2]).encode() not in data
    assert b".py" not in data
    assert not any(i.external_data for i in fixed.graph.initializer)


def test_two_exports_are_the_same_bytes(net: nn.Module, fixed: onnx.ModelProto) -> None:
    again = to_onnx(net, EXAMPLE, ["head0", "head1"])
    assert again.SerializeToString(deterministic=True) == fixed.SerializeToString(deterministic=True)


@pytest.mark.parametrize("opset", [18, 20, 23])
def test_opset_is_the_one_asked_for(opset: int) -> None:
    model = to_onnx(nn.Sequential(nn.Conv2d(3, 4, 1)).eval(), EXAMPLE, ["out"], opset)
    assert {o.domain: o.version for o in model.opset_import}[""] == opset


def test_export_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    to_onnx(nn.Sequential(nn.Conv2d(3, 4, 1)).eval(), EXAMPLE, ["out"], 18, dynamic_batch=True)
    assert capfd.readouterr() == ("", "")


class Scaled(nn.Module):
    """A network with something behind it that is not part of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.conv(x)]


def test_tail_is_computed_in_the_graph_and_names_stay() -> None:
    net = Scaled().eval()
    model = to_onnx(net, EXAMPLE, ["twice"], tail=lambda outputs: outputs[0] * 2)
    assert {"conv.weight", "conv.bias"} <= set(initializers(model))
    reached = OnnxSession(model.SerializeToString()).run({"images": images(1)})[0]
    np.testing.assert_allclose(reached, expected(net, images(1))[0] * 2, rtol=1e-4, atol=1e-5)


class Undecided(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else -x


def test_control_flow_on_tensors_is_refused_with_a_remedy() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), Undecided()).eval()
    with pytest.raises(StageError, match=r"cannot be exported to ONNX.*control flow"):
        to_onnx(net, EXAMPLE, ["out"])


class Shared(nn.Module):
    """A convolution whose output goes on without its norm too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        nn.init.constant_(self.norm.weight, 3.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + y


def test_a_norm_is_not_folded_where_others_take_the_convolutions_output() -> None:
    net = Shared().eval()
    reached = OnnxSession(to_onnx(net, EXAMPLE, ["out"]).SerializeToString()).run({"images": images(1)})[0]
    with torch.no_grad():
        assert snr_db(net(torch.from_numpy(images(1))).numpy(), reached) > 90


def test_mish_is_exported_in_a_form_that_is_quick_and_the_same() -> None:
    x = torch.linspace(-30, 60, 4001)[None, None, None]
    expected = torch.nn.functional.mish(x)
    assert torch.allclose(ExportedMish()(x), expected, rtol=4e-5, atol=1e-6)
    half = ExportedMish()(x.half()).float()
    assert bool(torch.isfinite(half).all()) and torch.allclose(half, expected, rtol=4e-3, atol=4e-3)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Mish())
    model = to_onnx(net, torch.zeros(1, 3, 8, 8), ["out"])
    assert "Mish" not in {n.op_type for n in model.graph.node} and isinstance(net[1], torch.nn.Mish)


class Deviation(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.conv, self.settings = nn.Conv2d(3, 4, 1), settings

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).std(**self.settings)


@pytest.mark.parametrize(
    "settings",
    [{"dim": (2, 3), "correction": 0, "keepdim": True}, {"dim": (2, 3)}, {"dim": (1,), "correction": 2}],
)
def test_a_standard_deviation_of_any_size_is_a_few_operators(settings: dict[str, Any]) -> None:
    net = Deviation(**settings).eval()
    model = to_onnx(net, torch.zeros(1, 3, 8, 12), ["out"], dynamic_batch=True, size_multiple=1)
    assert not {"Reshape", "Expand", "Shape"} & {n.op_type for n in model.graph.node}
    given = np.random.default_rng(0).random((2, 3, 5, 9), dtype=np.float32)
    with torch.no_grad():
        wanted = net(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(
        OnnxSession(model.SerializeToString()).run({"images": given})[0], wanted, atol=1e-6
    )


class Ladder(nn.Module):
    """Down by 4 and up again, with a shortcut: sizes must be multiples of 4."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 4, 3, 4, 1), nn.Upsample(scale_factor=4)
        self.side = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x)) + self.side(x)


def test_any_height_and_width_that_are_multiples() -> None:
    net = Ladder().eval()
    session = OnnxSession(to_onnx(net, EXAMPLE, ["out"], size_multiple=4).SerializeToString())
    assert session.inputs == {"images": (1, 3, None, None)}
    for size in ((4, 12), (64, 64), (40, 20)):
        given = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
        with torch.no_grad():
            wanted = net(torch.from_numpy(given)).numpy()
        np.testing.assert_allclose(session.run({"images": given})[0], wanted, atol=1e-5)


def test_sizes_that_the_network_does_not_allow_are_reported() -> None:
    class Placed(Ladder):
        """With a map of one size, as positions are learned."""

        def __init__(self) -> None:
            super().__init__()
            self.places = nn.Parameter(torch.zeros(1, 4, 64, 64))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.places

    with pytest.raises(StageError, match="dynamic_size: false"):
        to_onnx(Placed().eval(), EXAMPLE, ["out"], size_multiple=4)
