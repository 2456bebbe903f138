"""Calibration: the range of every tensor that is to be quantized, measured on images in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np
import onnx
from onnx import helper

from edgec.core.errors import StageError
from edgec.core.events import Advance, ignore_progress
from edgec.core.grid import Range, last_level
from edgec.core.session import Array
from edgec.onnx.graph import clone, value_infos
from edgec.onnx.session import OnnxSession
from edgec.quantization.tensor_keys import keys_of

BINS = 2048
Method = Literal["minmax", "moving_average", "percentile", "mse", "entropy"]
MOMENTUM = 0.1  # of the moving average, for each batch
Cost = Callable[
    [Array, float, float], float
]  # of a cut to (low, high), from the centres of a histogram's bins


def calibrate(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    images: Array,
    method: Method = "percentile",
    percentile: float = 99.99,
    batch: int = 16,
    progress: Advance = ignore_progress,
    bits: int = 8,
) -> dict[str, Range]:
    """(low, high), by the names of `keys_of`, of each tensor over images [n, c, h, w]; low <= 0 <= high, so that zero is exact.

    minmax takes the extremes, moving_average those of batches, of which later ones count more; percentile cuts both tails;
    mse takes the cut with the least error of `bits` bits, entropy the one whose rounded distribution diverges least (Kullback and
    Leibler) from the one before. Two passes: extremes, then histograms between them. Raises StageError that names the
    tensors that are constant or not finite.
    """
    if len(images) == 0:
        raise StageError("quantize: the calibration set is empty; raise stages.quantize.images")
    session = _watching(model, tensors)
    parts = _parts(session, images, batch)
    once = method in ("minmax", "moving_average")
    passes = len(parts) * (1 if once else 2)
    low, high = np.full(len(tensors), np.inf), np.full(len(tensors), -np.inf)
    for index, part in enumerate(parts):
        for k, value in enumerate(session.run({"images": part})):
            least, most = value.min(), value.max()
            if method == "moving_average" and index:
                low[k] += MOMENTUM * (least - low[k])
                high[k] += MOMENTUM * (most - high[k])
            else:
                low[k], high[k] = np.minimum(low[k], least), np.maximum(high[k], most)  # keep NaN
        progress(index + 1, passes)
    named = keys_of(model)
    keys = [named.get(name, name) for name in tensors]
    _refuse(keys, low, high)
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    if once:
        return {name: (float(low[k]), float(high[k])) for k, name in enumerate(keys)}
    histograms = np.zeros((len(tensors), BINS))
    for index, part in enumerate(parts):
        for k, value in enumerate(session.run({"images": part})):
            histograms[k] += np.histogram(value, BINS, (low[k], high[k]))[0]
        progress(len(parts) + index + 1, passes)
    choose = {
        "percentile": partial(_percentile, percentile=percentile),
        "mse": partial(_least_error, bits=bits),
        "entropy": partial(_least_divergence, bits=bits),
    }[method]
    return {name: choose(histograms[k], float(low[k]), float(high[k])) for k, name in enumerate(keys)}


def magnitudes(
    model: onnx.ModelProto, tensors: Sequence[str], images: Array, batch: int = 16
) -> dict[str, Array]:
    """The largest magnitude of each channel over images, by tensor; tensors without channels [n, c, h, w] are left out."""
    session = _watching(model, tensors)
    largest: dict[str, Array] = {}
    for part in _parts(session, images, batch):
        for name, value in zip(tensors, session.run({"images": part}), strict=True):
            if value.ndim == 4:
                reached = np.abs(value).max((0, 2, 3))
                largest[name] = np.maximum(largest.get(name, 0), reached)
    return largest


def means_of(
    model: onnx.ModelProto, tensors: Sequence[str], images: Array, batch: int = 16
) -> dict[str, Array]:
    """The mean of each channel over images and positions, by tensor [n, c, h, w]."""
    session = _watching(model, tensors)
    sums: dict[str, Array] = {}
    counts: dict[str, int] = {}
    for part in _parts(session, images, batch):
        for name, value in zip(tensors, session.run({"images": part}), strict=True):
            sums[name] = sums.get(name, 0) + value.sum((0, 2, 3), dtype=np.float64)
            counts[name] = counts.get(name, 0) + value.size // value.shape[1]
    return {name: sums[name] / counts[name] for name in sums}


def values_of(model: onnx.ModelProto, tensors: Sequence[str], images: Array) -> dict[str, Array]:
    """What the named tensors hold for one batch of images, run as written."""
    if not tensors:
        return {}
    return dict(zip(tensors, _watching(model, tensors).run({"images": images}), strict=True))


def _parts(session: OnnxSession, images: Array, batch: int) -> list[Array]:
    """The images in batches: of the graph's size, without a rest, where it is fixed."""
    fixed = session.inputs["images"][0]
    size = fixed or batch
    parts = [images[i : i + size] for i in range(0, len(images), size)]
    return [p for p in parts if len(p) == size or fixed is None]


def _watching(model: onnx.ModelProto, tensors: Sequence[str]) -> OnnxSession:
    """A session whose outputs are the named tensors, in order. A graph input passes through an Identity."""
    copy, types = clone(model), value_infos(model)
    inputs = {i.name for i in model.graph.input}
    del copy.graph.output[:]
    for name in tensors:
        watched = copy.graph.output.add()
        watched.CopyFrom(types[name])
        if name in inputs:
            watched.name = f"{name}_seen"
            copy.graph.node.append(helper.make_node("Identity", [name], [watched.name]))
    return OnnxSession(copy.SerializeToString(), threads=2, optimize=False)


def _refuse(tensors: Sequence[str], low: Array, high: Array) -> None:
    wild = [n for n, a, b in zip(tensors, low, high, strict=True) if not (np.isfinite(a) and np.isfinite(b))]
    if wild:
        raise StageError(
            f"quantize: not finite on the calibration images: {', '.join(wild[:8])}; check the network's weights"
        )
    flat = [n for n, a, b in zip(tensors, low, high, strict=True) if a == b]
    if flat:
        raise StageError(
            f"quantize: constant on all calibration images: {', '.join(flat[:8])}; use real images, or prune what is dead"
        )


def _percentile(histogram: Array, low: float, high: float, percentile: float) -> Range:
    """The range that holds `percentile` percent, cutting both tails alike; zero stays inside."""
    share = np.cumsum(histogram) / max(histogram.sum(), 1)
    tail = (1 - percentile / 100) / 2
    edges = np.linspace(low, high, BINS + 1)
    first = int(np.searchsorted(share, tail, side="right"))
    last = int(np.searchsorted(share, 1 - tail))
    return min(float(edges[min(first, BINS)]), 0.0), max(float(edges[min(last + 1, BINS)]), 0.0)


def _least_error(histogram: Array, low: float, high: float, bits: int) -> Range:
    """The cut of both ends whose rounding to 2^bits levels and clipping errs least in mean square."""
    last = last_level(bits)

    def error(centres: Array, a: float, b: float) -> float:
        step = (b - a) / last
        rounded = np.clip(np.round((centres - a) / step), 0, last) * step + a
        return float((np.square(rounded - centres) * histogram).sum())

    return _best_cut(low, high, error)


def _least_divergence(histogram: Array, low: float, high: float, bits: int) -> Range:
    """The cut of both ends with the least divergence of the rounded from the true distribution.

    What lies beyond a cut counts at its edge in the true distribution; the rounded one spreads the count of each of 2^bits
    levels over the bins in it that were not empty (Migacz 2017, TensorRT's calibration).
    """

    last = last_level(bits)

    def divergence(centres: Array, a: float, b: float) -> float:
        inside = (centres >= a) & (centres <= b)
        kept = histogram[inside]
        if not kept.sum():
            return np.inf
        true = kept.copy()
        true[0] += histogram[centres < a].sum()
        true[-1] += histogram[centres > b].sum()
        level = np.clip(np.round((centres[inside] - a) / ((b - a) / last)), 0, last).astype(int)
        filled = kept > 0
        total, bins = np.bincount(level, kept, last + 1), np.bincount(level, filled, last + 1)
        rounded = np.where(filled, total[level] / np.maximum(bins[level], 1), 0)
        p, q = true / true.sum(), rounded / rounded.sum()
        return float((p[p > 0] * np.log(p[p > 0] / np.maximum(q[p > 0], 1e-12))).sum())

    return _best_cut(low, high, divergence)


def _best_cut(low: float, high: float, cost: Cost) -> Range:
    """Of 40 cuts of both ends together, the cheapest. `cost` is given the centres of the bins, and the ends."""
    edges = np.linspace(low, high, BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    best, least = (low, high), np.inf
    for share in np.linspace(0.2, 1.0, 40):
        error = cost(centres, low * share, high * share)
        if error < least:
            best, least = (float(low * share), float(high * share)), error
    return best
