"""What is installed, what this machine can do, and what to do about what is missing. Never fails."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from edgec.core.runtimes import RUNTIMES
from edgec.devices import local
from edgec.recipe.tables import TABLES
from edgec.runtimes.converters import litert_environment as converter

LEAST_PYTHON = (3, 11)
LEAST_DISK_BYTES = 2e9
LEAST_MEMORY_BYTES = 4e9
# package on PyPI -> what edgec uses it for
REQUIRED = {
    "torch": "networks and training",
    "onnx": "writing artifacts",
    "onnxscript": "exporting artifacts",
    "onnxruntime": "running and measuring artifacts",
    "torch-pruning": "dependency groups of channels",
    "opencv-python-headless": "reading images",
}
# extras that no runtime brings: by distribution, the extra and what it is good for
OTHER_EXTRAS = {
    "neural-compressor": ("neural-compressor", "another way to calibrate post-training quantization")
}


class Row(NamedTuple):
    """`remedy` is empty where nothing has to be done."""

    what: str
    found: str
    remedy: str = ""


def report() -> list[Row]:
    """All rows. A look that fails becomes a row that says so."""
    rows: list[Row] = []
    looks: tuple[Callable[[], Iterator[Row]], ...] = (
        _python,
        _packages,
        _providers,
        _cuda,
        _cpu,
        _room,
        _optional,
        _extensions,
    )
    for look in looks:
        try:
            rows += look()
        except Exception as error:  # a broken installation must not hide the other rows
            what = look.__name__.strip("_")
            rows.append(Row(what, f"failed: {type(error).__name__}: {error}", "reinstall edgec's packages"))
    return rows


def _python() -> Iterator[Row]:
    least = ".".join(map(str, LEAST_PYTHON))
    old = tuple(map(int, platform.python_version_tuple()[:2])) < LEAST_PYTHON
    yield Row("python", platform.python_version(), f"install Python {least} or newer" if old else "")


def _packages() -> Iterator[Row]:
    for name, purpose in REQUIRED.items():
        installed = _version(name)
        if installed is None and name == "opencv-python-headless":
            installed = _version("opencv-python") or _version("opencv-contrib-python")
        yield Row(name, installed or "not installed", "" if installed else f"pip install {name}  ({purpose})")


def _optional() -> Iterator[Row]:
    extras = {name: (row.extra, purpose) for row in RUNTIMES.rows() for name, purpose in row.distributions}
    for name, (extra, purpose) in (extras | OTHER_EXTRAS).items():
        installed = _version(name)
        wanted = f"'edgec[{extra}]'" if extra else name  # a package's runtime has no extra of edgec's
        remedy = "" if installed else f"only if you want it: pip install {wanted}  ({purpose})"
        yield Row(f"optional: {name}", installed or "not installed", remedy)
    python = converter.converter_python()
    folder = converter.environment_folder()
    remedy = f"only if you want it: edgec doctor --install litert-converter  ({converter.GIGABYTES} GB, in {folder})"
    yield Row(
        "optional: litert-converter", "installed" if python else "not installed", "" if python else remedy
    )


def _extensions() -> Iterator[Row]:
    """What other installed packages bring to the tables that recipes choose from."""
    for table in TABLES:
        for declared, reason in table.of_packages():
            what = f"extension: {table.what} {declared.name}"
            remedy = f"{reason}; fix or uninstall {declared.package}" if reason else ""
            yield Row(what, f"{'broken' if reason else 'works'}, of {declared.package}", remedy)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _providers() -> Iterator[Row]:
    if importlib.util.find_spec("onnxruntime") is None:
        return
    available: list[str] = importlib.import_module("onnxruntime").get_available_providers()
    providers = [name.removesuffix("ExecutionProvider") for name in available]
    yield Row(
        "onnxruntime providers", ", ".join(providers), "" if "CPU" in providers else "pip install onnxruntime"
    )


def _cuda() -> Iterator[Row]:
    built = torch_cuda_version()
    devices = cuda_devices()
    if devices and built is None:
        yield Row(
            "CUDA", f"{devices} device(s), torch without CUDA", "install a CUDA build of torch to train on it"
        )
    elif devices:
        yield Row("CUDA", f"{devices} device(s), torch for CUDA {built}")
    else:
        yield Row(
            "CUDA", "no device; training runs on the CPU" + (f" (torch for CUDA {built})" if built else "")
        )


def torch_cuda_version() -> str | None:
    """The CUDA version that the installed torch was built for, read without importing torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    source = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    match = re.search(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)['\"]", source, re.MULTILINE)
    return match.group(1) if match else None


def cuda_devices() -> int:
    """Number of CUDA devices that the driver offers, 0 where there is no driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def _cpu() -> Iterator[Row]:
    yield Row("CPU", local.cpu_name())
    allowed, total = local.allowed_cores(), os.cpu_count() or 1
    yield Row("cores", str(total) if allowed == total else f"{allowed} of {total} allowed")
    yield int8_row(local.cpu_flags(), platform.machine())
    yield fp16_row(local.cpu_flags())
    governor = local.environment()["governor"]
    if governor not in ("unavailable", "performance"):
        yield Row(
            "CPU governor",
            governor,
            "set it to performance while measuring: cpupower frequency-set -g performance",
        )


def fp16_row(flags: frozenset[str]) -> Row:
    """What fp16 brings on a CPU with these extensions."""
    what = "fp16 on this CPU"
    halves = sorted(flags & {"avx512_fp16", "asimdhp", "fphp"})
    if halves:
        return Row(what, f"{', '.join(halves)}: fp16 arithmetic, which ncnn and MNN use on ARM")
    if not flags:
        return Row(
            what,
            "the system does not report the CPU's extensions",
            "measure it: edgec profile model.fp16.onnx",
        )
    return Row(what, "no fp16 arithmetic: fp16 makes files smaller, not faster (onnxruntime gets slower)")


def int8_row(flags: frozenset[str], machine: str) -> Row:
    """What int8 brings on a CPU with these extensions."""
    what = "int8 on this CPU"
    if flags & {"avx512_vnni", "avx_vnni"}:
        names = ", ".join(sorted(flags & {"avx512_vnni", "avx_vnni"}))
        return Row(what, f"{names}: 8-bit dot products, 2-3 times as fast as fp32")
    if flags & {"asimddp", "i8mm"}:
        names = ", ".join(sorted(flags & {"asimddp", "i8mm"}))
        return Row(what, f"NEON {names}: 8-bit dot products, faster than fp32")
    if machine.lower() in ("arm64", "aarch64") and not flags:
        return Row(
            what,
            "the system does not report the CPU's extensions",
            "measure it: edgec profile model.fp32.onnx model.int8.onnx",
        )
    if flags & {"avx2", "avx512f"}:
        return Row(what, "no VNNI: int8 is little or no faster than fp32, and can saturate in onnxruntime",
                   "set session.x64quantprecision to 1 in your application, as edgec does where it measures")  # fmt: skip
    return Row(
        what, "no 8-bit dot products: int8 saves memory, not time", "ship fp32 or fp16 to such a device"
    )


def _room() -> Iterator[Row]:
    import psutil

    memory = psutil.virtual_memory()
    low = memory.available < LEAST_MEMORY_BYTES
    yield Row(
        "memory",
        f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free",
        "lower batch and data.input, or free some" if low else "",
    )
    free = shutil.disk_usage(Path.cwd()).free
    yield Row(
        "disk here",
        f"{free / 1e9:.1f} GB free",
        "free some, or set EDGEC_STORE to another disk" if free < LEAST_DISK_BYTES else "",
    )
