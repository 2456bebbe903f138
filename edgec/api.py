"""The public names of edgec: what `edgec.NAME` gives, and the Python twin of each command."""

from __future__ import annotations

from edgec.core.results.accuracy import Accuracy
from edgec.core.results.profile import ProfileResult
from edgec.devices.check import DeviceCheck, check_devices
from edgec.recipe import Recipe, load
from edgec.report.compare import compare
from edgec.run.evaluate import evaluate
from edgec.run.pipeline import compress
from edgec.run.profile import profile
from edgec.run.state import Run
from edgec.tasks.detection.detect import DetectedObject, detect
from edgec.tiles.upscale import upscale

__all__ = [
    "Accuracy",
    "DetectedObject",
    "DeviceCheck",
    "ProfileResult",
    "Recipe",
    "Run",
    "check_devices",
    "compare",
    "compress",
    "detect",
    "evaluate",
    "load",
    "profile",
    "upscale",
]
