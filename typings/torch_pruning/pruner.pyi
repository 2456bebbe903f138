from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

class BasePruner:
    def __init__(
        self,
        model: nn.Module,
        example_inputs: Tensor,
        *,
        importance: Any,
        pruning_ratio: float,
        ignored_layers: Sequence[nn.Module],
        pruning_ratio_dict: Mapping[nn.Module, float],
    ) -> None: ...
    def step(self) -> None: ...
