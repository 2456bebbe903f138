"""Text of the program as Markdown."""

from __future__ import annotations


def prose(text: str) -> str:
    """`<` as itself, not as the start of HTML; what stands in backticks stays as it is."""
    parts = text.split("`")
    return "`".join(part if index % 2 else part.replace("<", "&lt;") for index, part in enumerate(parts))


def cell(text: str) -> str:
    """The same, in a cell of a table."""
    return prose(text).replace("|", "\\|").replace("\n", " ")
