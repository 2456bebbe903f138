"""A network at rest: saved, verified, rebuilt; and the errors of one that does not fit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from edgec.core.architectures import resolve_arch, shipped_archs
from edgec.core.errors import NetworkError, StorageError
from edgec.core.network import Network
from edgec.core.norms import folded_norms
from edgec.core.surgery import FoldNorms, Resize, surgery_of_json
from edgec.core.weights import load_into
from edgec.run.initial_network import read_weights

ARGS = {"classes": 2, "width": 0.25}


@pytest.fixture(scope="module")
def network() -> Network:
    return Network.initial("yolov4_tiny", ARGS, seed=3)


def test_it_is_reproducible_by_seed_and_leaves_the_generator_alone() -> None:
    before = torch.random.get_rng_state()
    a, b, c = (Network.initial("yolov4_tiny", ARGS, seed=s) for s in (1, 1, 2))
    assert a.digest == b.digest != c.digest
    assert torch.equal(before, torch.random.get_rng_state())


def test_save_and_load_in_a_new_process(network: Network, tmp_path: Path) -> None:
    network.save(tmp_path / "n")
    assert Network.load(tmp_path / "n").digest == network.digest
    code = (
        "import sys, torch; from pathlib import Path; from edgec.core.network import Network\n"
        "n = Network.load(Path(sys.argv[1])); print(n.digest); n.build()(torch.zeros(1, 3, 64, 64))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "n")],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == network.digest


def test_one_flipped_bit_is_found(network: Network, tmp_path: Path) -> None:
    network.save(tmp_path)
    path = tmp_path / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError, match="sha256"):
        Network.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "{}", json.dumps({"format": 1})])
def test_a_damaged_description_is_reported(text: str, tmp_path: Path) -> None:
    (tmp_path / "network.json").write_text(text, encoding="utf-8")
    with pytest.raises((StorageError, NetworkError), match=r"network\.json"):
        Network.load(tmp_path)


def test_surgery_is_replayed(network: Network, tmp_path: Path) -> None:
    net = network.build()
    changes = {
        "head32_conv.conv": {"out_channels": 24},
        "head32_conv.bn": {"num_features": 24},
        "head32": {"in_channels": 24},
    }
    surgery = Resize(changes)
    smaller = Network(network.arch, network.args, (surgery,))
    smaller = smaller.with_weights(smaller.blank())
    smaller.save(tmp_path)
    built = Network.load(tmp_path).build()
    assert built.get_parameter("head32_conv.conv.weight").shape[0] == 24
    shapes = [o.shape for o in built(torch.zeros(1, 3, 64, 64))]
    assert shapes == [o.shape for o in net(torch.zeros(1, 3, 64, 64))]
    assert smaller.parameters < network.parameters


def test_unknown_surgeries_and_archs_are_reported(network: Network) -> None:
    with pytest.raises(NetworkError, match="unknown"):
        surgery_of_json("twist", {})
    with pytest.raises(NetworkError, match="yolov4_tiny"):
        resolve_arch("yolov5", False)
    with pytest.raises(NetworkError, match="--allow-code"):
        resolve_arch("os:system", False)
    with pytest.raises(NetworkError, match="cannot be made"):
        Network("yolov4_tiny", {"clases": 2}).blank()
    assert {"yolov4", "yolov4_tiny", "darknet"} <= set(shipped_archs())


def test_weights_that_do_not_fit_are_all_named(network: Network) -> None:
    weights = dict(network.weights)
    weights["extra"] = torch.zeros(1)
    weights["head32.bias"] = torch.zeros(5)
    weights["head16.bias"] = torch.full_like(weights["head16.bias"], float("nan"))
    del weights["head16.weight"]
    with pytest.raises(NetworkError) as caught:
        load_into(network.blank(), weights, "w")
    for part in (
        "extra: not part",
        "head32.bias: shape (5,)",
        "head16.weight: missing",
        "head16.bias: holds NaN",
    ):
        assert part in str(caught.value)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("ran",))


def test_checkpoints_are_read_without_running_code(tmp_path: Path, network: Network) -> None:
    torch.save({"state_dict": {f"module.{n}": t for n, t in network.weights.items()}}, tmp_path / "good.pt")
    assert set(read_weights(tmp_path / "good.pt")) == set(network.weights)
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(NetworkError, match="no tensors"):
        read_weights(tmp_path / "evil.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(NetworkError, match="no tensors"):
        read_weights(tmp_path / "broken.safetensors")


def test_folded_norms_are_replayed(network: Network, tmp_path: Path) -> None:
    net = network.build()
    with torch.no_grad():
        net.head32_conv.bn.running_mean += 0.3  # type: ignore[operator, union-attr]
    example = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    folded, pairs = folded_norms(net, example)
    assert pairs["head32_conv.conv"] == "head32_conv.bn"
    network.with_surgery(FoldNorms(pairs), folded).save(tmp_path)
    built = Network.load(tmp_path).build()
    assert not [m for m in built.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for a, b in zip(net(example), built(example), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert folded_norms(built, example)[1] == {}
