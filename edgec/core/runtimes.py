"""The table of runtimes: what each needs, how files get into it, and what it can tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from edgec.core.table import Table, dotted


@dataclass(frozen=True)
class RuntimeSpec:
    """One runtime. Functions are named `package.module:function` and imported when they are called."""

    name: str
    modules: tuple[str, ...] = ()  # that it and its converter import
    extra: str = ""  # of edgec, which installs them
    distributions: tuple[tuple[str, str], ...] = ()  # on PyPI: name, and what it is good for
    # (ConversionSource, folder) -> name of the main file, see edgec.runtimes.source; "" where it takes the .onnx file itself
    converts: str = ""
    opener: str = (
        ""  # (file, threads, package.json) -> (run, version), for a runtime that edgec.probe does not know
    )
    ready: str = ""  # () -> bool: what its converter needs beside modules is installed
    calibrates: bool = False  # its converter takes no scales and calibrates int8 itself, on images
    beside: tuple[str, ...] = ()  # files that a conversion writes and that are not the artifact's weights
    tells_operators: bool = False  # times by operator
    session: str = (
        ""  # (file, threads) -> Session, for a runtime that opens artifacts in edgec's own process, too
    )
    takes_networks: bool = False  # runs networks at rest, not artifacts
    provider: str = ""  # the execution provider, where the runtime is onnxruntime with another one

    @property
    def converted(self) -> bool:
        """Whether it takes its own files, converted from .onnx."""
        return bool(self.converts)

    @property
    def install(self) -> str:
        """What to install for it, as pip takes it: edgec's extra, or the distributions that a package's row names."""
        names = " ".join(name for name, _ in self.distributions) or " ".join(self.modules)
        return f"'edgec[{self.extra}]'" if self.extra else names

    def installed(self) -> bool:
        """Whether its modules, and what its converter needs beside them, are installed. Imports none of them."""
        is_ready: Callable[[], object] | None = dotted(self.ready) if self.ready else None
        return all(find_spec(module) for module in self.modules) and (is_ready is None or bool(is_ready()))


def _provider(name: str) -> RuntimeSpec:
    """onnxruntime with another execution provider, where the installed build has it."""
    return RuntimeSpec(f"onnxruntime-{name}", modules=("onnxruntime",), provider=name)


RUNTIMES = Table(
    "runtime",
    "edgec.runtimes",
    RuntimeSpec,
    (
        RuntimeSpec(
            "onnxruntime",
            modules=("onnxruntime",),
            tells_operators=True,
            session="edgec.onnx.session:OnnxSession",
        ),
        RuntimeSpec("torch", modules=("torch",), takes_networks=True),
        RuntimeSpec(
            "openvino",
            modules=("openvino",),
            extra="openvino",
            distributions=(("openvino", "artifacts in OpenVINO, int8 too"),),
            converts="edgec.runtimes.converters.openvino:convert",
            tells_operators=True,
        ),
        RuntimeSpec(
            "ncnn",
            modules=("ncnn", "pnnx"),
            extra="ncnn",
            distributions=(
                ("ncnn", "artifacts in ncnn, int8 with the artifact's own scales"),
                ("pnnx", "converting for ncnn"),
            ),
            converts="edgec.runtimes.converters.ncnn:convert",
        ),
        RuntimeSpec(
            "mnn",
            modules=("MNN",),
            extra="mnn",
            distributions=(
                ("MNN", "artifacts in MNN (its int8 on x86 is slower than fp32, which says nothing of ARM)"),
            ),
            converts="edgec.runtimes.converters.mnn:convert",
            tells_operators=True,
        ),
        RuntimeSpec(
            "litert",
            modules=("ai_edge_litert",),
            extra="litert",
            distributions=(("ai-edge-litert", "artifacts in LiteRT; converting takes its converter too"),),
            converts="edgec.runtimes.converters.litert:convert",
            ready="edgec.runtimes.converters.litert_environment:converter_python",
            calibrates=True,
            beside=("layout.json", "any.tflite"),
        ),
        RuntimeSpec(
            "executorch",
            modules=("executorch",),
            extra="executorch",
            distributions=(("executorch", "artifacts in ExecuTorch, int8 with the artifact's own scales"),),
            converts="edgec.runtimes.converters.executorch:convert",
            beside=("any.pte",),
        ),
        _provider("cuda"),
        _provider("tensorrt"),
        _provider("openvino"),
        _provider("xnnpack"),
        _provider("coreml"),
        _provider("nnapi"),
        _provider("qnn"),
    ),
)


def tells_operators(runtime: str) -> bool:
    """Whether a runtime reports times by operator; torch's ways, which are no rows of the table, don't."""
    row = RUNTIMES.find(runtime)
    return row is not None and row.tells_operators


def opener_of(runtime: str) -> str:
    """What a job of edgec.probe names beside the runtime: how its files are opened, "" where the probe knows."""
    row = RUNTIMES.find(runtime)
    return "" if row is None else row.opener


def converted_runtimes() -> list[str]:
    """The runtimes that take their own files, converted from .onnx."""
    return [row.name for row in RUNTIMES.rows() if row.converted]
