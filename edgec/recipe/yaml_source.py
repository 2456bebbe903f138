"""Reading a recipe's text strictly, and knowing the line of each key.

YAML alone lets through duplicate keys, aliases (and alias bombs), `.nan`, `no` for False, `22:30` for 1350
and nesting deep enough to exhaust the stack. Here scalars follow YAML 1.2's core schema, and the rest is refused.
"""

from __future__ import annotations

import difflib
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, ValidationError

from edgec.core.errors import Problem, RecipeError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 16
MAX_NODES = 20_000
PIPELINES = "edgec.pipelines"
KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class RecipeSource:
    """A recipe's text, read: the tree, the line of every key, and where it came from."""

    tree: dict[str, Any]
    lines: Mapping[KeyPath, int]
    name: str  # shown in errors
    folder: Path | None  # relative paths start here; None: the current folder
    overrides: frozenset[KeyPath] = field(default_factory=frozenset[KeyPath])

    def place(self, path: KeyPath) -> str:
        """`file:line key.path`, with the line of the nearest key that stands in the file."""
        dotted = ".".join(str(part) for part in path)
        if any(path[: len(o)] == o for o in self.overrides):
            return f"override {dotted}"
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return f"{self.name}:{self.lines[path[:end]]} {dotted}".rstrip()
        return f"{self.name} {dotted}".rstrip()


def shipped_recipes() -> list[str]:
    """File names of the recipes in the package."""
    return sorted(f.name for f in resources.files(PIPELINES).iterdir() if f.name.endswith(".yaml"))


def title_of(text: str) -> str:
    """The first comment of a recipe that is none for editors."""
    comments = (line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("yaml-language-server:")), "")


def find_recipe(source: str | Path) -> tuple[str, str, Path | None]:
    """(text, name, folder) of a path, or of a shipped recipe by its name."""
    path = Path(source)
    if path.is_file():
        if path.stat().st_size > MAX_BYTES:
            raise RecipeError(
                [Problem(str(path), f"{path.stat().st_size} bytes", f"a recipe has at most {MAX_BYTES}")]
            )
        try:
            return path.read_text(encoding="utf-8"), str(path), path.resolve().parent
        except UnicodeDecodeError as error:
            raise RecipeError(
                [Problem(str(path), f"not UTF-8 text ({error.reason})", "save it as UTF-8")]
            ) from None
    names = shipped_recipes()
    for name in names:
        if str(source) in (name, name.removesuffix(".yaml")):
            return (resources.files(PIPELINES) / name).read_text(encoding="utf-8"), name, None
    close = difflib.get_close_matches(str(source), names, 1)
    hint = f"did you mean {close[0]}?" if close else f"shipped recipes: {', '.join(names)}"
    raise RecipeError([Problem(str(source), "no such recipe file", hint)])


def parse(found: tuple[str, str, Path | None]) -> RecipeSource:
    """Read a recipe's text. Raises RecipeError with every problem of the text."""
    text, name, folder = found
    try:
        _refuse_tricks(text, name)
        root = cast(yaml.Node | None, yaml.compose(text, Loader=yaml.SafeLoader))  # pyright: ignore[reportUnknownMemberType]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise RecipeError(
            [Problem(f"{name}:{line}", f"not YAML: {error.problem}", "check indentation and quotes")]
        ) from None
    except yaml.YAMLError as error:
        raise RecipeError([Problem(name, f"not YAML: {error}", "remove control characters")]) from None
    if not isinstance(root, yaml.MappingNode):
        raise RecipeError([Problem(f"{name}:1", "not a mapping", "start with `name:` and `task:`")])
    lines: dict[KeyPath, int] = {}
    problems: list[Problem] = []
    tree = _plain(root, (), name, lines, problems)
    if problems:
        raise RecipeError(problems)
    return RecipeSource(tree, lines, name, folder)


def _refuse_tricks(text: str, name: str) -> None:
    """Refuse aliases, tags, deep nesting and huge documents before anything is built."""
    depth = nodes = documents = 0
    for event in cast(Iterator[yaml.Event], yaml.parse(text, Loader=yaml.SafeLoader)):  # pyright: ignore[reportUnknownMemberType]
        mark: Any = event.start_mark
        place = f"{name}:{mark.line + 1}"
        nodes += 1
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise RecipeError([Problem(place, "a second document", "keep one recipe per file")])
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise RecipeError([Problem(place, "an alias or anchor", "write the value out")])
        if isinstance(event, yaml.NodeEvent) and getattr(event, "tag", None):
            raise RecipeError([Problem(place, f"a tag {event.tag!r}", "remove it")])  # type: ignore[attr-defined]
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise RecipeError([Problem(place, f"nested deeper than {MAX_DEPTH}", "flatten it")])
        if nodes > MAX_NODES:
            raise RecipeError([Problem(place, f"more than {MAX_NODES} nodes", "shorten the recipe")])


def _plain(
    node: yaml.Node, path: KeyPath, name: str, lines: dict[KeyPath, int], problems: list[Problem]
) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        tree: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                problems.append(Problem(f"{name}:{line}", "a key that is not text", "use plain keys"))
                continue
            key = key_node.value
            if key in tree:
                message = f"key {key!r} is given twice (first on line {first[key]})"
                problems.append(
                    Problem(f"{name}:{line} {'.'.join(map(str, (*path, key)))}", message, "keep one")
                )
                continue
            first[key] = line
            lines[(*path, key)] = line
            tree[key] = _plain(value_node, (*path, key), name, lines, problems)
        return tree
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, i), name, lines, problems) for i, item in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    value = scalar(node.value, plain=node.style is None)
    if isinstance(value, float) and not math.isfinite(value):
        dotted = ".".join(map(str, path))
        problems.append(
            Problem(
                f"{name}:{node.start_mark.line + 1} {dotted}",
                f"must be a finite number, not {node.value}",
                "correct it",
            )
        )
    return value


def scalar(text: str, plain: bool = True) -> Any:
    """A scalar by YAML 1.2's core schema: `no` and `22:30` are text, `1e-3` is a number."""
    if not plain:
        return text
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"[-+]?[0-9]{1,18}", text):
        return int(text)
    if re.fullmatch(
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", text
    ):
        return float(text.replace(".", "", 1) if text.lower().lstrip("+-") in (".inf", ".nan") else text)
    return text


def apply_overrides(
    tree: dict[str, Any], source: RecipeSource, overrides: Mapping[str, Any] | Sequence[str]
) -> tuple[dict[str, Any], RecipeSource]:
    """`stages.prune.keep_params=0.4` and the like, put into a copy of the tree."""
    pairs: list[tuple[str, Any]] = []
    problems: list[Problem] = []
    if isinstance(overrides, Mapping):
        pairs = list(overrides.items())
    else:
        for text in overrides:
            key, equals, value = text.partition("=")
            if not equals or not key:
                problems.append(
                    Problem(f"override {text}", "is not key=value", "write stages.prune.keep_params=0.4")
                )
                continue
            try:
                parsed = parse((f"value: {value}", "override", None)).tree.get("value") if value else None
            except RecipeError as error:
                problems += [Problem(f"override {key}", p.message, p.remedy) for p in error.problems]
                continue
            pairs.append((key, parsed))
    paths: set[KeyPath] = set(source.overrides)
    for key, value in pairs:
        path = tuple(key.split("."))
        try:
            tree = _with(tree, path, value)
        except KeyError as error:
            problems.append(
                Problem(f"override {key}", f"{error.args[0]!r} is not a mapping", "check the dotted path")
            )
        paths.add(path)
    if problems:
        raise RecipeError(problems)
    return tree, replace(source, tree=tree, overrides=frozenset(paths))


def _with(tree: Any, path: tuple[str, ...], value: Any) -> Any:
    """A copy of the tree in which `path` holds `value`."""
    key, rest = path[0], path[1:]
    if isinstance(tree, list) and key.isdigit() and int(key) < len(items := cast(list[Any], tree)):
        copy = list(items)
        copy[int(key)] = _with(items[int(key)], rest, value) if rest else value
        return copy
    if not isinstance(tree, Mapping):
        raise KeyError(key)
    keys = cast(Mapping[str, Any], tree)
    below = keys.get(key)
    return {**keys, key: _with({} if below is None else below, rest, value) if rest else value}


def problems_of(error: ValidationError, source: RecipeSource, model: type[BaseModel]) -> list[Problem]:
    """pydantic's errors as problems with file, line, value, remedy and the nearest known key."""
    problems: list[Problem] = []
    for item in error.errors(include_url=False):
        path, known = _locate(tuple(item["loc"]), source.tree, model)
        kind, value = item["type"], item.get("input")
        message, remedy = item["msg"].removeprefix("Value error, "), ""
        if kind == "extra_forbidden":
            close = difflib.get_close_matches(str(path[-1]), known, 1, cutoff=0.5)
            message = f"unknown key {path[-1]!r}"
            remedy = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(sorted(known))}"
        elif kind == "missing":
            message, remedy = "this key is missing", "add it"
        elif kind in ("union_tag_invalid", "union_tag_not_found"):
            tags = [
                t
                for each in item.get("ctx", {}).get("expected_tags", "").split(",")
                if (t := each.strip("' "))
            ]
            tag = str(item.get("ctx", {}).get("tag", ""))
            close = difflib.get_close_matches(tag or str(path[-1]), tags, 1)
            name = str(item.get("ctx", {}).get("discriminator", "kind")).strip("'")
            message = f"{name} {tag!r} is unknown" if tag else f"the key {name!r} is missing"
            remedy = (
                f"did you mean {close[0]!r}?"
                if close
                else f"choose from {', '.join(tags)}"
                if tags
                else f"add `{name}:`, or give the entry the name of one; `edgec schema` lists them"
            )
        elif not isinstance(value, Mapping | list):
            message = f"{message} (found {value!r})"
        problems.append(Problem(source.place(path), message, remedy))
    return problems


def _locate(loc: KeyPath, tree: Any, model: Any) -> tuple[KeyPath, list[str]]:
    """The key path of a pydantic location (which also holds union tags), and the keys known at its parent."""
    path: list[str | int] = []
    known: list[str] = []
    kind: Any = model
    node: Any = tree
    for part in loc:
        kind = _without_none(kind)
        members = [m for m in typing.get_args(kind) if _tag(m) == part] if _is_union(kind) else []
        if members and not (isinstance(node, Mapping) and part in node and _tag_of_node(node) != part):
            kind = members[0]
            continue
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            known = list(kind.model_fields)
            info = kind.model_fields.get(str(part))
            kind = info.annotation if info else None
        elif typing.get_args(kind):
            kind = typing.get_args(kind)[1 if typing.get_origin(kind) is dict else 0]
        if isinstance(node, Mapping) and part in node:
            node = cast(Mapping[object, Any], node)[part]
        elif isinstance(node, list) and isinstance(part, int) and part < len(items := cast(list[Any], node)):
            node = items[part]
        elif not known:
            continue  # a name of pydantic's own, such as a union member
        path.append(part)
    return tuple(path), known


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def _without_none(kind: Any) -> Any:
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if _is_union(kind):
        members = [m for m in typing.get_args(kind) if m is not type(None)]
        return members[0] if len(members) == 1 else kind
    return kind


def _tag(model: Any) -> str | None:
    """The value of a union member's discriminator."""
    for name in ("kind", "format"):
        info = (
            model.model_fields.get(name) if isinstance(model, type) and issubclass(model, BaseModel) else None
        )
        if info is not None:
            return typing.get_args(info.annotation)[0]
    return None


def _tag_of_node(node: Any) -> Any:
    keys = cast(Mapping[object, Any], node)
    return keys.get("kind", keys.get("format"))
