"""Exact sums of 8-bit products: only where the CPU needs help, since the help costs time elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgec.onnx.session import OnnxSession
from edgec.probe import sums
from edgec.probe.describe import cpu_flags
from edgec.probe.onnx_session import open_session


class Overflowing:
    """A session on a CPU that adds two products in 16 bits and gives the largest number that they hold."""

    def __init__(self, *given: Any, **more: Any) -> None: ...

    def run(self, *given: Any) -> list[np.ndarray]:
        return [np.full((1, 1), 2 * (2**15 - 1), np.int32)]


@pytest.fixture
def overflowing() -> Iterator[None]:
    sums.overflow.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime, "InferenceSession", Overflowing)
        assert sums.overflow()
    yield
    sums.overflow.cache_clear()


def exact(session: onnxruntime.InferenceSession) -> bool:
    try:
        return session.get_session_options().get_session_config_entry(sums.EXACT) == "1"
    except RuntimeError:  # it was not set
        return False


def test_the_product_is_four_times_255_and_127() -> None:
    model = onnx.load_from_string(sums.PRODUCT)
    onnx.checker.check_model(model, full_check=True)
    (node,), (weight,) = model.graph.node, model.graph.initializer
    assert (node.op_type, list(node.input), weight.name) == ("MatMulInteger", ["a", "b"], "b")
    assert onnx.numpy_helper.to_array(weight).ravel().tolist() == [127] * 4


def test_sums_are_exact_on_this_cpu_as_edgec_opens_sessions() -> None:
    options = onnxruntime.SessionOptions()
    sums.make_exact(options)
    session = onnxruntime.InferenceSession(sums.PRODUCT, options, providers=["CPUExecutionProvider"])
    (total,) = session.run(None, {"a": np.full((1, 4), 255, np.uint8)})
    assert total.tolist() == [[4 * 255 * 127]]


@pytest.mark.skipif(not cpu_flags() & {"avx512_vnni", "avx_vnni"}, reason="this CPU has no VNNI")
def test_a_cpu_with_8_bit_dot_products_needs_no_help() -> None:
    assert not sums.overflow()


def test_help_is_asked_for_where_sums_overflow(overflowing: None, tiny_onnx: Callable[..., Path]) -> None:
    assert exact(open_session(tiny_onnx(), 1))
    assert exact(OnnxSession(tiny_onnx())._session)


def test_no_help_is_asked_for_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tiny_onnx: Callable[..., Path]
) -> None:
    monkeypatch.setattr(sums, "overflow", lambda: False)
    assert not exact(open_session(tiny_onnx(), 1))
    assert not exact(OnnxSession(tiny_onnx())._session)
