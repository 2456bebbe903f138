"""The environment of LiteRT's converter: TensorFlow is too large, and too particular about its neighbours, for edgec's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from edgec.core.errors import Missing, StageError
from edgec.core.files import write_atomic

PACKAGES = ("onnx2tf==1.29.24",)  # which names the exact release of all that it needs
PYTHONS = ((3, 10), (3, 12))  # for which TensorFlow 2.19 has wheels
DONE = "complete.json"
GIGABYTES = 2.6


def environment_folder() -> Path:
    """Where the converter's environment is: under $EDGEC_CONVERTERS, or the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("EDGEC_CONVERTERS", cache / "edgec" / "converters")) / "litert"


def converter_python() -> Path | None:
    """The Python of the converter's environment; None where it was not installed whole."""
    python = environment_folder() / "bin" / "python"
    return python if (environment_folder() / DONE).is_file() and python.exists() else None


def install_converter() -> Path:
    """Make the environment, with pip's words on the terminal; gives its folder.

    Raises Missing for a Python without TensorFlow, StageError when pip fails.
    """
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        first, last = (".".join(map(str, each)) for each in PYTHONS)
        raise Missing(
            f"TensorFlow is available for Python {first} to {last}; run edgec with one of these to install it"
        )
    folder = environment_folder()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DONE).unlink(missing_ok=True)
    commands = (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", *PACKAGES],
    )
    for command in commands:
        done = subprocess.run(command, check=False)
        if done.returncode != 0:
            raise StageError(f"{' '.join(command)}: ended with status {done.returncode}; see above")
    write_atomic(folder / DONE, json.dumps({"packages": PACKAGES}).encode())
    return folder
