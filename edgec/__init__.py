"""edgec turns a trained vision network into verified artifacts for an edge device.

    import edgec
    run = edgec.compress("detector.yaml", overrides={"stages.prune.keep_params": 0.4})
    print(run.report, run.gates)

The public names are those of `edgec.api`, the Python twin of the command line. They are imported on first use, so that
`import edgec` and `edgec --help` stay cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgec.core.version import __version__ as __version__

if TYPE_CHECKING:
    from edgec.api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    if name == "__all__" or not name.startswith("__"):
        api = import_module("edgec.api")
        if name == "__all__" or name in api.__all__:
            return getattr(api, name)
    raise AttributeError(f"module 'edgec' has no attribute {name!r}")
