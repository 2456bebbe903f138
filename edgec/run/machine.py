"""The machine that a run works on: torch's device, versions, processor, edgec's own commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import JsonValue

from edgec.core.errors import Missing, RecipeError
from edgec.core.version import __version__
from edgec.probe.describe import cpu_name


def choose_device(asked: str) -> str:
    """auto, cpu or cuda as a torch device. Raises Missing when CUDA is asked for and absent."""
    import torch

    if asked not in ("auto", "cpu", "cuda"):
        raise RecipeError(f"--device {asked!r}: give auto, cpu or cuda")
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise Missing(
            "--device cuda: no CUDA device is available to torch; use --device cpu, or install a CUDA build"
        )
    return "cuda" if available and asked != "cpu" else "cpu"


def environment() -> dict[str, JsonValue]:
    """Versions and the machine, for the report and the manifest."""
    names = ("torch", "onnx", "onnxruntime", "torch-pruning", "numpy", "opencv-python-headless")
    versions: dict[str, str] = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "edgec": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "git": _git_state(),
        **versions,
    }


def _git_state() -> str:
    """The commit of edgec's own source, when it runs from a checkout."""
    place = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(place), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unavailable"
    return done.stdout.strip()
