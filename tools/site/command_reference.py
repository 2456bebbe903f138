"""The command reference: a page made of the commands themselves, by walking them as typer knows them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from markdown_text import cell, prose
from typer.main import get_command

ROOT = Path(__file__).parents[2]
HEAD = (
    "# Command reference\n\nThis page is made from the program itself; `edgec COMMAND --help` prints the same. "
    "Errors go to standard error, results to standard output. See [troubleshooting](../troubleshooting.md) for exit codes.\n\n"
)


def application() -> typer.Typer:
    """The typer application behind the entry point `edgec` of pyproject.toml."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module = import_module(str(scripts["edgec"]).partition(":")[0])
    return next(value for value in vars(module).values() if isinstance(value, typer.Typer))


def command_page() -> str:
    """The page as Markdown."""
    return HEAD + "\n\n".join(_section(path, command) for path, command in commands()) + "\n"


def commands() -> Iterator[tuple[str, Any]]:
    """(`edgec compress`, its command), sub-commands too, without hidden ones."""
    yield from _walk("edgec", get_command(application()))


def _walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner: dict[str, Any] = getattr(command, "commands", {})
    if not inner:
        yield path, command
    for name, each in inner.items():
        if not each.hidden:
            yield from _walk(f"{path} {name}", each)


def _section(path: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    usage = " ".join([path, *(["[OPTIONS]"] if options else []), *(_argument(a) for a in arguments)])
    lines = [f"## {path}", "", prose(str(command.help or "").strip()), "", f"    {usage}", ""]
    rows = [(f"`{_argument(a)}`", _default(a), a.help or "") for a in arguments]
    rows += [(_names(o), _default(o), o.help or "") for o in options]
    if rows:
        lines += ["| argument or option | default | meaning |", "| --- | --- | --- |"]
        lines += [f"| {name} | {default} | {cell(str(text))} |" for name, default, text in rows]
    return "\n".join(lines)


def _argument(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _names(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.name.upper()}"
    return ", ".join(f"`{name}{value}`" for name in [*option.opts, *option.secondary_opts])


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if callable(value) or value in (None, (), [], "", False):
        return ""
    return f"`{str(value).lower() if value is True else value}`"
