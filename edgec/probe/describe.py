"""The machine as a measurement depends on it. What the system does not tell is "unavailable"."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "onnxruntime",
    "openvino",
    "ncnn",
    "MNN",
    "ai-edge-litert",
    "executorch",
    "torch",
    "numpy",
    "onnx",
    "edgec",
)
ENERGY = Path("/sys/class/powercap/intel-rapl:0/energy_uj")  # of the first package, since some moment


def environment() -> dict[str, Any]:
    """CPU, cores and those at work now, governor, temperature, energy meter, load average, system, Python and versions."""
    return {
        "cpu": cpu_name(),
        "cores": allowed_cores(),
        "governor": text_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "temperature_c": "unavailable" if (degrees := temperature_c()) is None else degrees,
        "energy": "unavailable" if energy_uj() is None else "RAPL",
        "busy_cores": busy_cores(),
        "load_average": load_average(),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: installed for name in PACKAGES if (installed := _version(name))},
    }


def allowed_cores() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy_cores(seconds: float = 0.5) -> float | None:
    """How many of the CPUs that this process may use were at work while it slept, or None where the system does not tell."""
    before = _ticks()
    time.sleep(seconds)
    after = _ticks()
    if not before or before.keys() != after.keys():
        return None
    passed = {cpu: (after[cpu][0] - before[cpu][0], after[cpu][1] - before[cpu][1]) for cpu in before}
    return round(sum(busy / max(whole, 1) for busy, whole in passed.values()), 2)


def _ticks() -> dict[str, tuple[int, int]]:
    """(at work or taken by another machine, all) since the start, by CPU that this process may use."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    found: dict[str, tuple[int, int]] = {}
    for line in text_of("/proc/stat", "").splitlines():
        name, *ticks = line.split() or [""]
        if name.removeprefix("cpu").isdecimal() and int(name[3:]) in allowed:
            counts = [
                int(t) for t in ticks[:8]
            ]  # user, nice, system, idle, waiting for disks, interrupts, stolen
            found[name] = sum(counts) - sum(counts[3:5]), sum(counts)
    return found


def load_average() -> float | None:
    """Runnable processes over the last minute, or None where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def energy_uj() -> int | None:
    """The energy counter in microjoules, or None where there is none that may be read."""
    try:
        return int(ENERGY.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def cpu_name() -> str:
    """The CPU's name as the system tells it."""
    for line in text_of("/proc/cpuinfo", "").splitlines():
        if line.lower().startswith(("model name", "hardware")):
            return line.partition(":")[2].strip()
    board = text_of("/proc/device-tree/model", "").strip("\0 ")
    return board or platform.processor() or platform.machine() or "unknown"


def cpu_flags() -> frozenset[str]:
    """Instruction-set extensions: `flags` on x86, `Features` on ARM; empty where the system does not tell."""
    for line in text_of("/proc/cpuinfo", "").splitlines():
        if line.lower().startswith(("flags", "features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def text_of(path: str, otherwise: str = "unavailable") -> str:
    """What a file of the system says."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return otherwise


def temperature_c() -> float | None:
    """Degrees Celsius of the first thermal zone, or None where the system does not tell."""
    try:
        return int(text_of("/sys/class/thermal/thermal_zone0/temp")) / 1000
    except ValueError:
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
