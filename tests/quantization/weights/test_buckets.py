"""Buckets of weights: levels between the least and the largest, gradients straight through."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgec.quantization.weights.buckets import BucketQuantizer, levels_of


def rebuilt(weight: np.ndarray, bits: int, bucket: int) -> np.ndarray:
    levels, step, offset = levels_of(weight, bits, bucket)
    return (levels * step + offset).reshape(-1)[: weight.size].reshape(weight.shape)


@given(
    st.integers(1, 700), st.sampled_from([2, 3, 4, 6, 8]), st.sampled_from([8, 64, 256]), st.integers(0, 99)
)
def test_half_a_step_of_its_bucket_is_the_largest_error(
    count: int, bits: int, bucket: int, seed: int
) -> None:
    weight = np.random.default_rng(seed).normal(size=count).astype(np.float32)
    levels, step, _ = levels_of(weight, bits, bucket)
    assert levels.shape == (-(-count // min(bucket, count)), min(bucket, count))
    assert -(2 ** (bits - 1)) <= levels.min() <= levels.max() <= 2 ** (bits - 1) - 1
    error = np.abs(rebuilt(weight, bits, bucket) - weight)
    per_weight = np.repeat(step[:, 0], levels.shape[1])[:count]
    assert np.all(error <= per_weight * 0.5001 + 1e-6)


def test_the_ends_of_a_bucket_are_exact_and_equal_weights_stay() -> None:
    weight = np.array([[-3.0, 0.1, 7.0, 2.0], [5.0, 5.0, 5.0, 5.0]], np.float32)
    made = rebuilt(weight, 2, 4)
    assert made[0, 0] == pytest.approx(-3) and made[0, 2] == pytest.approx(7)
    assert np.allclose(made[1], 5, atol=1e-6)


def test_training_rounds_as_the_artifact_does_and_gradients_pass() -> None:
    weight = torch.randn(5, 7, 3, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    quantizer = BucketQuantizer("layer", 4, 256)
    made = quantizer(weight)
    assert np.allclose(made.detach().numpy(), rebuilt(weight.detach().numpy(), 4, 256), atol=1e-6)
    gradient = torch.randn(made.shape, generator=torch.Generator().manual_seed(1))
    made.backward(gradient)
    assert torch.equal(weight.grad, gradient)  # type: ignore[arg-type]
    assert quantizer.format(weight).bucket == 256
