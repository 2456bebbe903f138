"""`edgec models`"""

from __future__ import annotations

from edgec.cli.console import say


def models() -> None:
    """The architectures and the weights that edgec ships."""
    from importlib import resources
    from inspect import signature

    from edgec.core.architectures import resolve_arch, shipped_archs

    for name in shipped_archs():
        say(f"{name:16} {signature(resolve_arch(name, False), eval_str=True)}")
    for file in sorted(file.name for file in resources.files("edgec.models").iterdir()):
        if file.endswith(".safetensors"):
            say(f"edgec:{file}")
