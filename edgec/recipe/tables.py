"""All tables that recipes choose from, to be looked through as one."""

from __future__ import annotations

from typing import Any

from edgec.core.runtimes import RUNTIMES
from edgec.core.table import Table
from edgec.distillers.catalog import DISTILLERS
from edgec.recipe.data import DATA
from edgec.recipe.stages import STAGES
from edgec.recipe.tasks import TASKS

TABLES: tuple[Table[Any], ...] = (TASKS, DATA, STAGES, DISTILLERS, RUNTIMES)
