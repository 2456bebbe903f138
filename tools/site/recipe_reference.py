"""The recipe reference: a page made of the schema, its descriptions, types, limits and defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from markdown_text import cell, prose

from edgec.recipe import Recipe

Schema = Mapping[str, Any]  # JSON schema, as pydantic gives it
REF = "#/$defs/"
TITLE = "# Recipe reference\n\n"
HEAD = (
    "This page is made from the schema that checks recipes (`edgec schema` prints it as JSON). Unknown keys are errors. "
    "Any key can be overridden on the command line by its dotted path: `edgec compress detector.yaml "
    "stages.prune.keep_macs=0.5`.\n\n"
)
BOUNDS = (
    ("minimum", "at least"),
    ("exclusiveMinimum", "above"),
    ("maximum", "at most"),
    ("exclusiveMaximum", "below"),
)


def recipe_page() -> str:
    """The page as Markdown."""
    return TITLE + HEAD + "\n\n".join(_sections(Recipe.model_json_schema())) + "\n"


def keys() -> list[tuple[str, str]]:
    """(model, key) of every key that the page must explain."""
    schema = Recipe.model_json_schema()
    return [(name, key) for name, model in _models(schema).items() for key in model["properties"]]


def _models(schema: Schema) -> dict[str, Schema]:
    parts: Mapping[str, Schema] = schema["$defs"]
    return {"Recipe": schema, **{name: part for name, part in parts.items() if "properties" in part}}


def _sections(schema: Schema) -> Iterator[str]:
    """The recipe itself, then each part in the order in which one meets it."""
    models = _models(schema)
    for name in _reached(models):
        yield _section(name, models[name])


def _reached(models: Mapping[str, Schema]) -> list[str]:
    """Names of models, depth first, each after the first that refers to it."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        order.append(name)
        for key in models[name]["properties"].values():
            for ref in _refs(key):
                if ref in models:
                    visit(ref)

    visit("Recipe")
    return order


def _refs(node: object) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "$ref":
                yield str(value).removeprefix(REF)
            elif key != "discriminator":
                yield from _refs(value)
    elif isinstance(node, list):
        for item in node:
            yield from _refs(item)


def _section(name: str, model: Schema) -> str:
    lines = [
        f"## {_heading(name, model)} {{#{_anchor(name)}}}",
        "",
        prose(str(model.get("description", ""))),
        "",
    ]
    lines += ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    required: list[str] = model.get("required", [])
    for key, schema in model["properties"].items():
        default = "required" if key in required else _value(schema.get("default"))
        meaning = str(schema.get("description", "Selects this part." if "const" in schema else ""))
        lines.append(f"| `{key}` | {cell(_type(schema))} | {default} | {cell(meaning)} |")
    return "\n".join(lines)


def _heading(name: str, model: Schema) -> str:
    """`prune` (stage), `signs` (data): what selects the model, or its name."""
    for key in ("kind", "format"):
        tag = model["properties"].get(key, {}).get("const")
        if tag is not None:
            return f"`{key}: {tag}` ({name})"
    return name


def _anchor(name: str) -> str:
    return f"part-{name.lower()}"


def _value(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return f"`{str(value).lower()}`"
        case dict():
            return "see there" if value else "`{}`"
        case list():
            items: list[object] = value
            return "`[" + ", ".join(str(v) for v in items) + "]`"
        case _:
            return f"`{value}`"


def _type(schema: Schema) -> str:
    """A value's type and limits in words."""
    match schema:
        case {"$ref": str(ref)}:
            return _link(ref)
        case {"const": value}:
            return f"`{value}`"
        case {"enum": values}:
            return ", ".join(f"`{v}`" for v in values)
        case {"anyOf": options} | {"oneOf": options}:
            return " or ".join(_type(o) for o in options if o.get("type") != "null")
        case {"type": "array", "prefixItems": items}:
            return f"list of {len(items)}: {_type(items[0])}"
        case {"type": "array", "items": item}:
            return f"list of: {_type(item)}"
        case {"type": "object", "patternProperties": patterns}:
            return f"mapping, name to {_type(next(iter(patterns.values())))}"
        case {"type": "object", "additionalProperties": dict(item)}:
            return f"mapping, name to {_type(item)}" if item else "mapping"
        case {"type": "string", "format": "path"}:
            return "path"
        case {"type": str(kind)}:
            limits = [f"{word} {schema[key]:.10g}" for key, word in BOUNDS if key in schema]
            names = {"number": "number", "integer": "integer", "boolean": "`true`, `false`", "string": "text"}
            return ", ".join([names.get(kind, kind), *limits])
        case _:
            return "any value"


def _link(ref: str) -> str:
    name = ref.removeprefix(REF)
    return "any value" if name == "JsonValue" else f"[{name}](#{_anchor(name)})"
