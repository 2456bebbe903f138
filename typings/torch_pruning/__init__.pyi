"""What edgec and its tests use of torch-pruning, which ships no types."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch_pruning import importance as importance
from torch_pruning import pruner as pruner

class BasePruningFunc(ABC):
    TARGET_MODULES: Any
    def __init__(self, pruning_dim: int = 1) -> None: ...
    @abstractmethod
    def prune_out_channels(self, layer: Any, idxs: Sequence[int]) -> nn.Module: ...
    @abstractmethod
    def prune_in_channels(self, layer: Any, idxs: Sequence[int]) -> nn.Module: ...
    @abstractmethod
    def get_out_channels(self, layer: Any) -> int: ...
    @abstractmethod
    def get_in_channels(self, layer: Any) -> int: ...

class Node:
    module: nn.Module | nn.Parameter

class Dependency:
    target: Node
    handler: Any

class GroupItem:
    dep: Dependency
    idxs: Sequence[int]
    root_idxs: Sequence[int]

class Group:
    def __iter__(self) -> Iterator[GroupItem]: ...

class DependencyGraph:
    def build_dependency(
        self,
        model: nn.Module,
        example_inputs: Tensor,
        *,
        customized_pruners: Mapping[Any, BasePruningFunc] | None = None,
    ) -> DependencyGraph: ...
    def get_all_groups(
        self, ignored_layers: Sequence[nn.Module] = ..., root_module_types: Sequence[type[nn.Module]] = ...
    ) -> Iterator[Group]: ...
    def is_out_channel_pruning_fn(self, fn: Any) -> bool: ...
