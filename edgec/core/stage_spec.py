"""What a stage is to recipes and to the pipeline: a row of the table of stages."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel


@dataclass(frozen=True)
class StageSpec:
    """One kind of stage. Functions and types are named `package.module:name` and imported when they are needed.

    `function(config, network, env)` gives the network and a result of the type `result`.
    """

    name: str  # `kind` in recipes
    config: type[BaseModel]  # with the field `kind`
    function: str = ""  # "" where the config itself names it
    result: str = "edgec.core.results.other:CustomResult"
    trains: bool = False  # every process of a distributed training takes part
    compresses: bool = True  # the network before the first one that does is the dense one
    cached: bool = True  # its result is taken from the store
    dense: bool = False  # its result depends on the network before compression
