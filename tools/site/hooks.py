"""Pages of the site that are made from the program: the references of recipes, commands and Python names."""

from __future__ import annotations

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

from command_reference import command_page
from python_reference import python_page
from recipe_reference import recipe_page

PAGES = {
    "reference/recipe.md": recipe_page,
    "reference/commands.md": command_page,
    "reference/python.md": python_page,
}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the made pages to those of docs/."""
    for place, page in PAGES.items():
        files.append(File.generated(config, place, content=page()))
    return files
