"""`edgec recipes`"""

from __future__ import annotations

from edgec.cli.console import say


def recipes() -> None:
    """The recipes that edgec ships."""
    from edgec.recipe.yaml_source import find_recipe, shipped_recipes, title_of

    for name in shipped_recipes():
        say(f"{name:32} {title_of(find_recipe(name)[0])}")
