"""What a network's `quantize` surgery holds, and the int8 graph that it makes of the network's float graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx

from edgec.core.grid import Ranges
from edgec.core.network import Network
from edgec.core.surgery import QuantizationRecord, Surgery
from edgec.quantization.bias import Biases, corrected
from edgec.quantization.equalize import Factors, equalized
from edgec.quantization.qdq_graph import insert_pairs
from edgec.quantization.weights.formats import Formats, WeightFormat


@dataclass(frozen=True)
class Quantization:
    """Everything that int8 needs beside the float weights."""

    ranges: Ranges  # by tensor, as `tensor_keys.keys_of` names it
    float_layers: tuple[str, ...] = ()
    factors: Factors = field(default_factory=dict[str, Any])  # of cross-layer equalization, by layer
    formats: Formats = field(default_factory=dict[str, WeightFormat])  # of weights; 8 bits where not named
    method: str = "percentile"  # of calibration
    activation_bits: int = 8
    biases: Biases = field(default_factory=dict[str, Any])  # corrections, by layer

    def graph(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """The int8 graph of a network's float graph. Raises StageError when that is not the one that was calibrated."""
        made = corrected(equalized(model, self.factors), self.biases)
        return insert_pairs(made, self.ranges, self.float_layers, formats=self.formats)

    @property
    def few_bits(self) -> bool:
        """Whether some layer's weights are palettized, or are rounded alone."""
        return self.weights_only or any(form.centroids is not None for form in self.formats.values())

    @property
    def weights_only(self) -> bool:
        """Whether no activation is rounded."""
        return not self.ranges and bool(self.formats)

    def surgery(self) -> Surgery:
        return QuantizationRecord(
            {
                "ranges": {name: list(bounds) for name, bounds in self.ranges.items()},
                "factors": dict(self.factors),
                "float_layers": list(self.float_layers),
                "formats": {layer: form.to_json() for layer, form in self.formats.items()},
                "method": self.method,
                "activation_bits": self.activation_bits,
                "biases": dict(self.biases),
            },
        )


def quantization_of(network: Network) -> Quantization | None:
    """What the last quantize surgery recorded; None for a network without one."""
    surgery = network.surgery("quantize")
    if surgery is None:
        return None
    changes: Mapping[str, Any] = surgery.changes
    return Quantization(
        {name: (float(low), float(high)) for name, (low, high) in changes["ranges"].items()},
        tuple(changes["float_layers"]),
        changes.get("factors", {}),
        {layer: WeightFormat.of_json(item) for layer, item in changes.get("formats", {}).items()},
        changes["method"],
        changes.get("activation_bits", 8),
        changes.get("biases", {}),
    )
