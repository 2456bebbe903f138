"""Darknet networks: any .cfg of the section types below becomes a module, its .weights file is loaded in order.

Format as read by AlexeyAB/darknet: convolutional, route, shortcut, maxpool, upsample, avgpool, scale_channels,
dropout, yolo. A route that takes a channel block of a convolution (`groups`) makes that convolution several
parallel ones, one a block, so that all channels can be pruned.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgec.models.blocks import ACTIVATIONS, Add, Concat, ConvBNAct, DarknetMaxPool, activation, initialize

MAX_CFG = 1 << 20  # characters
MAX_LAYERS = 2000
MAX_CHANNELS = 65536
MAX_WEIGHTS = 1 << 27  # of one convolution
KNOWN = (
    "convolutional",
    "route",
    "shortcut",
    "maxpool",
    "upsample",
    "avgpool",
    "scale_channels",
    "dropout",
    "yolo",
)
# Options that change the result and are not built, with the value that switches them off.
REFUSED = {
    "convolutional": {
        "stride_x": "",
        "stride_y": "",
        "antialiasing": "0",
        "binary": "0",
        "xnor": "0",
        "deform": "0",
    },
    "maxpool": {"stride_x": "", "stride_y": "", "maxpool_depth": "0", "antialiasing": "0"},
    "upsample": {"scale": "1"},
    "scale_channels": {"scale_wh": "0", "activation": "linear"},
}
ALIASES = {"conv": "convolutional", "network": "net", "max": "maxpool", "avg": "avgpool"}


@dataclass(frozen=True)
class Section:
    """One [section] of a cfg. `index` counts layers from 0; [net] has -1."""

    kind: str
    options: dict[str, str]
    line: int
    index: int

    def fail(self, message: str) -> ValueError:
        return ValueError(f"cfg line {self.line}, layer {self.index} [{self.kind}]: {message}")

    def integer(self, name: str, default: int, low: int = 0, high: int = MAX_CHANNELS) -> int:
        text = self.options.get(name, str(default))
        try:
            value = int(text)
        except ValueError:
            raise self.fail(f"{name}={text} is not a whole number; correct it") from None
        if not low <= value <= high:
            raise self.fail(f"{name}={value} lies outside {low}..{high}; correct it")
        return value

    def number(self, name: str, default: float) -> float:
        text = self.options.get(name, str(default))
        try:
            value = float(text)
        except ValueError:
            raise self.fail(f"{name}={text} is not a number; correct it") from None
        if not math.isfinite(value):
            raise self.fail(f"{name}={text} is not finite; write a number")
        return value

    def numbers(self, name: str) -> list[float]:
        try:
            return [float(part) for part in self.options[name].split(",") if part.strip()]
        except KeyError:
            raise self.fail(f"{name} is missing; add it") from None
        except ValueError:
            raise self.fail(f"{name}={self.options[name]} is not a list of numbers") from None

    def layers(self, name: str, default: str | None = None) -> list[int]:
        """Layer references as absolute indices; negative ones count back from this layer."""
        text = self.options.get(name, default)
        if not text:
            raise self.fail(f"{name} is missing; add it")
        found: list[int] = []
        for part in text.split(","):
            try:
                value = int(part)
            except ValueError:
                raise self.fail(f"{name}={text} is not a list of layers") from None
            value = self.index + value if value < 0 else value
            if not 0 <= value < self.index:
                raise self.fail(
                    f"{name} refers to layer {value}, there are layers 0..{self.index - 1} before it"
                )
            found.append(value)
        return found


def parse(cfg: str) -> tuple[Section, list[Section]]:
    """The [net] section and the layers of a cfg text. Raises ValueError with line, value and remedy."""
    if len(cfg) > MAX_CFG:
        raise ValueError(f"cfg of {len(cfg)} characters; at most {MAX_CFG} are read")
    sections: list[Section] = []
    for number, raw in enumerate(cfg.splitlines(), 1):
        line = raw.split("#", 1)[0].split(";", 1)[0].strip()
        if not line:
            continue
        if line.startswith("["):
            if not line.endswith("]"):
                raise ValueError(f"cfg line {number}: {line!r} is not a section; close the bracket")
            kind = line[1:-1].strip().lower()
            sections.append(Section(ALIASES.get(kind, kind), {}, number, len(sections) - 1))
            continue
        key, equals, value = line.partition("=")
        if not equals or not sections:
            raise ValueError(f"cfg line {number}: {line!r} is neither [section] nor key=value")
        if key.strip() in sections[-1].options:
            raise sections[-1].fail(f"{key.strip()} is given twice, again in line {number}; keep one")
        sections[-1].options[key.strip()] = value.strip()
    if not sections or sections[0].kind != "net":
        raise ValueError("cfg: the first section is not [net]; is this a Darknet cfg?")
    if not 1 < len(sections) <= MAX_LAYERS:
        raise ValueError(f"cfg: {len(sections) - 1} layers; 1 to {MAX_LAYERS} are read")
    for section in sections[1:]:
        if section.kind not in KNOWN:
            raise section.fail(f"this section type is not one of {', '.join(KNOWN)}")
        for name, off in REFUSED.get(section.kind, {}).items():
            if section.options.get(name, off) != off:
                raise section.fail(f"{name}={section.options[name]} is not read; take the option out")
    return sections[0], sections[1:]


class ScaleChannels(nn.Module):
    """Multiply a feature map by a [n, c, 1, 1] vector (squeeze and excitation)."""

    def forward(self, feature: Tensor, vector: Tensor) -> Tensor:
        return feature * vector


class PlainConv(nn.Module):
    """Convolution with bias and an activation, without batch norm."""

    def __init__(self, conv: nn.Conv2d, act: str) -> None:
        super().__init__()
        self.conv = conv
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))


class ParallelConv(nn.Module):
    """A convolution whose output channel blocks are parallel convolutions; gives all blocks, joined and apart."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.concat = Concat()

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        parts = [block(x) for block in self.blocks]
        return self.concat(*parts), parts


class Darknet(nn.Module):
    """[n, c, h, w] in 0..1 -> the raw maps that enter the [yolo] sections, in their order."""

    def __init__(self, cfg: str, anchors: Sequence[Sequence[Sequence[float]]] | None = None) -> None:
        super().__init__()
        net, self.sections = parse(cfg)
        self.input_size = (net.integer("height", 416, 32, 8192), net.integer("width", 416, 32, 8192))
        channels = net.integer("channels", 3, 1, 64)
        blocks = self._channel_blocks()
        outs: list[int] = []
        strides: list[int] = []
        self.heads: list[dict[str, object]] = []
        heads: list[nn.Conv2d] = []
        self.plan: list[tuple[str, tuple[int, ...]]] = []  # what each layer does, and with which layers
        for s in self.sections:
            i = outs[-1] if outs else channels
            stride = strides[-1] if strides else 1
            sources: tuple[int, ...] = ()
            module: nn.Module | None = None
            out = i
            match s.kind:
                case "convolutional":
                    module, out, step = self._convolution(s, i, blocks.get(s.index, 1))
                    stride *= step
                case "route":
                    sources = tuple(s.layers("layers"))
                    groups, group = s.integer("groups", 1, 1), s.integer("group_id", 0)
                    if group >= groups:
                        raise s.fail(f"group_id={group} with groups={groups}; it counts from 0")
                    out = sum(outs[k] for k in sources) // groups
                    stride = strides[sources[0]]
                    if any(strides[k] != stride for k in sources):
                        raise s.fail("joins layers of different resolution; check `layers`")
                    module = Concat() if len(sources) > 1 else None
                case "shortcut":
                    if s.options.get("weights_type", "none") != "none":
                        raise s.fail("weighted shortcuts are not read; use plain ones")
                    sources = tuple(s.layers("from"))
                    if strides[sources[0]] != stride:
                        raise s.fail("adds layers of different resolution; check `from`")
                    if len(sources) != 1 or outs[sources[0]] != i:
                        raise s.fail(
                            f"adds {i} channels to {[outs[k] for k in sources]}; they must be equal, and one layer"
                        )
                    module = ConvActAdd(s.options.get("activation", "linear"))
                case "scale_channels":
                    sources = tuple(s.layers("from"))
                    if len(sources) != 1 or outs[sources[0]] != i:
                        raise s.fail(
                            f"scales {[outs[k] for k in sources]} channels by {i}; they must be equal"
                        )
                    stride = strides[sources[0]]
                    module = ScaleChannels()
                case "maxpool":
                    step = s.integer("stride", 1, 1, 64)
                    size = s.integer("size", step, 1, 256)
                    module = DarknetMaxPool(size, step, s.integer("padding", size - 1, 0, 256))
                    stride *= step
                case "upsample":
                    step = s.integer("stride", 2, 1, 64)
                    if stride % step:
                        raise s.fail(f"stride={step} upsamples a map of stride {stride}")
                    module = nn.Upsample(scale_factor=step, mode="nearest")
                    stride //= step
                case "avgpool":
                    module = nn.AdaptiveAvgPool2d(1)
                case "yolo":
                    own = (
                        anchors[len(self.heads)]
                        if anchors is not None and len(self.heads) < len(anchors)
                        else None
                    )
                    self.heads.append(self._head(s, i, stride, own))
                    last = getattr(self, self.name_of(s.index - 1), None)
                    if not isinstance(last, PlainConv) or not isinstance(last.act, nn.Identity):
                        raise s.fail(
                            "needs a [convolutional] without batch_normalize, activation=linear, before it"
                        )
                    heads.append(last.conv)
                case _:
                    pass  # dropout: identity that counts
            if module is not None:
                self.add_module(self.name_of(s.index), module)
            self.plan.append((s.kind, sources))
            outs.append(out)
            strides.append(stride)
        if not self.heads:
            raise ValueError("cfg: no [yolo] section; edgec reads detectors")
        if anchors is not None and len(anchors) != len(self.heads):
            raise ValueError(f"anchors for {len(anchors)} heads, the cfg has {len(self.heads)}")
        self._keep = {k for _, sources in self.plan for k in sources}
        classes = {int(str(head["classes"])) for head in self.heads}
        if len(classes) != 1:
            raise ValueError(f"cfg: heads of {sorted(classes)} classes; give all [yolo] sections the same")
        initialize(self, heads, classes.pop())

    @staticmethod
    def name_of(index: int) -> str:
        return f"layer_{index:03d}"

    def _channel_blocks(self) -> dict[int, int]:
        """Convolutions of which a route takes a channel block, and into how many blocks they are cut."""
        blocks: dict[int, int] = {}
        for s in self.sections:
            groups = s.integer("groups", 1, 1) if s.kind == "route" else 1
            if groups == 1:
                continue
            for source in s.layers("layers"):
                target = self.sections[source]
                if target.kind != "convolutional" or target.integer("groups", 1, 1) != 1:
                    raise s.fail(
                        f"takes a channel block of layer {source} [{target.kind}]; only plain convolutions are cut"
                    )
                if blocks.setdefault(source, groups) != groups:
                    raise s.fail(
                        f"cuts layer {source} into {groups} blocks, another route into {blocks[source]}"
                    )
        return blocks

    @staticmethod
    def _convolution(s: Section, i: int, blocks: int) -> tuple[nn.Module, int, int]:
        """(module, output channels, stride) of a [convolutional] section."""
        o, size = s.integer("filters", 1, 1), s.integer("size", 1, 1, 64)
        step, groups = s.integer("stride", 1, 1, 64), s.integer("groups", 1, 1)
        padding = size // 2 if s.integer("pad", 0, 0, 1) else s.integer("padding", 0, 0, 64)
        act = s.options.get("activation", "logistic")
        if act not in ACTIVATIONS:
            raise s.fail(f"activation={act} is not one of {', '.join(ACTIVATIONS)}")
        if i % groups or o % groups or o % blocks:
            raise s.fail(f"{i} to {o} channels cannot be cut into {max(groups, blocks)} groups")
        if s.integer("dilation", 1, 1, 64) != 1:
            raise s.fail("dilated convolutions are not read; use dilation=1")
        if o * (i // groups) * size * size > MAX_WEIGHTS:
            raise s.fail(f"{o * (i // groups) * size * size:,} weights; one layer may have {MAX_WEIGHTS:,}")
        normalize = s.integer("batch_normalize", 0, 0, 1) == 1

        def one(filters: int) -> nn.Module:
            conv = nn.Conv2d(i, filters, size, step, padding, groups=groups, bias=not normalize)
            if not normalize:
                return PlainConv(conv, act)
            block = ConvBNAct(1, 1, 1, act=act)
            block.conv, block.bn = conv, nn.BatchNorm2d(filters, eps=1e-5)
            return block

        return (one(o) if blocks == 1 else ParallelConv([one(o // blocks) for _ in range(blocks)])), o, step

    @staticmethod
    def _head(s: Section, i: int, stride: int, own: Sequence[Sequence[float]] | None) -> dict[str, object]:
        """The head of a [yolo] section, as tasks read it from `net.heads`."""
        classes = s.integer("classes", 20, 1)
        flat = s.numbers("anchors")
        pairs = list(zip(flat[::2], flat[1::2], strict=False))
        listed = s.numbers("mask") if "mask" in s.options else list(range(len(pairs)))
        if any(m not in range(len(pairs)) for m in listed):
            raise s.fail(f"mask {listed}: need numbers of anchors, 0..{len(pairs) - 1}")
        mask = [int(m) for m in listed]
        if len(flat) % 2:
            raise s.fail(f"{len(flat)} anchor numbers do not fit together; give pairs of width and height")
        if s.integer("new_coords", 0, 0, 1):
            raise s.fail("new_coords=1 is not read; it is another decoding")
        if i != len(mask) * (5 + classes):
            raise s.fail(
                f"{i} channels come in, {len(mask)} anchors and {classes} classes need {len(mask) * (5 + classes)}"
            )
        anchors = [list(map(float, a)) for a in (own if own is not None else [pairs[m] for m in mask])]
        if any(len(a) != 2 or not all(0 < v < math.inf for v in a) for a in anchors):
            raise s.fail(f"anchors {anchors}: need pairs of positive numbers, width and height in pixels")
        if len(anchors) != len(mask):
            raise s.fail(f"{len(anchors)} anchors given, the head has {len(mask)}")
        return {
            "anchors": anchors,
            "stride": stride,
            "scale_xy": s.number("scale_x_y", 1.0),
            "classes": classes,
        }

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs: dict[int, Tensor] = {}
        parts: dict[int, list[Tensor]] = {}
        maps: list[Tensor] = []
        for index, (kind, sources) in enumerate(self.plan):
            module = getattr(self, self.name_of(index), None)
            if kind == "route":
                section = self.sections[index]
                group = section.integer("group_id", 0)
                cut = section.integer("groups", 1, 1) > 1
                inputs = [parts[k][group] if cut else outputs[k] for k in sources]
                x = module(*inputs) if module is not None else inputs[0]
            elif kind in ("shortcut", "scale_channels"):
                assert module is not None
                x = module(outputs[sources[0]], x)
            elif kind == "yolo":
                maps.append(x)
            elif isinstance(module, ParallelConv):
                x, parts[index] = module(x)
            elif module is not None:
                x = module(x)
            if index in self._keep:
                outputs[index] = x
        return maps


class ConvActAdd(nn.Module):
    """Darknet's shortcut: a sum, then an activation (linear as a rule)."""

    def __init__(self, act: str) -> None:
        super().__init__()
        self.add = Add()
        self.act = activation(act)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.act(self.add(a, b))


def build(cfg: str, anchors: Sequence[Sequence[Sequence[float]]] | None = None) -> nn.Module:
    """The module of a cfg's text. `anchors`: per head, instead of the cfg's own."""
    return Darknet(cfg, anchors)


def load_weights(net: nn.Module, data: bytes) -> None:
    """Load a .weights file (float32, little endian, in layer order), in place.

    Raises ValueError when it is shorter or longer than the network needs.
    """
    if not isinstance(net, Darknet):
        raise TypeError(
            f"{type(net).__name__} has no Darknet layers; set network.arch: darknet and network.cfg"
        )
    if len(data) < 20:
        raise ValueError(f"{len(data)} bytes; a .weights file has a header of 16 or 20")
    major, minor, _ = struct.unpack_from("<3i", data)
    header = 20 if major * 10 + minor >= 2 and major < 1000 and minor < 1000 else 16
    targets = [t for section in net.sections for t in _tensors_in_order(net, section)]
    needed = sum(t.numel() for t in targets)
    if needed * 4 != len(data) - header:
        raise ValueError(
            f"the file holds {(len(data) - header) / 4:,.2f} numbers after its {header}-byte header, the network needs "
            f"{needed:,}; use the .weights that belongs to this .cfg"
        )
    values = torch.frombuffer(bytearray(data[header:]), dtype=torch.float32)
    if not torch.isfinite(values).all():
        raise ValueError("the file holds numbers that are not finite; it is damaged, get it again")
    at = 0
    with torch.no_grad():
        for target in targets:
            target.copy_(values[at : at + target.numel()].view_as(target))
            at += target.numel()


def _tensors_in_order(net: Darknet, section: Section) -> list[Tensor]:
    """The tensors of a layer in the file's order: biases, [scales, means, variances], weights."""
    if section.kind != "convolutional":
        return []
    module = net.get_submodule(Darknet.name_of(section.index))
    blocks: list[Any] = list(module.blocks) if isinstance(module, ParallelConv) else [module]
    if isinstance(blocks[0], PlainConv):
        return [b.conv.bias for b in blocks] + [b.conv.weight for b in blocks]
    names = ("bias", "weight", "running_mean", "running_var")
    return [getattr(b.bn, name) for name in names for b in blocks] + [b.conv.weight for b in blocks]
