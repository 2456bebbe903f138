"""edgec turns a trained vision network into verified artifacts for an edge device.

    import edgec
    run = edgec.compress("detector.yaml", overrides={"stages.prune.keep_params": 0.4})
    print(run.report, run.gates)

The names below are the Python twin of the command line. They are imported on first use, so that
`import edgec` and `edgec --help` stay cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgec.core.version import __version__

if TYPE_CHECKING:
    from edgec.api import check_devices, detect, evaluate, profile
    from edgec.recipe import Recipe, load
    from edgec.report.compare import compare
    from edgec.run.pipeline import compress
    from edgec.run.state import Run
    from edgec.tiles.upscale import upscale

__all__ = [
    "Recipe",
    "Run",
    "__version__",
    "check_devices",
    "compare",
    "compress",
    "detect",
    "evaluate",
    "load",
    "profile",
    "upscale",
]

_HOME = {
    "compress": "edgec.run.pipeline",
    "Run": "edgec.run.state",
    "detect": "edgec.api",
    "check_devices": "edgec.api",
    "evaluate": "edgec.api",
    "profile": "edgec.api",
    "compare": "edgec.report.compare",
    "Recipe": "edgec.recipe",
    "load": "edgec.recipe",
    "upscale": "edgec.tiles.upscale",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'edgec' has no attribute {name!r}")
