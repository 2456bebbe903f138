"""All tables that recipes choose from, to be looked through as one."""

from __future__ import annotations

from typing import Any

from edgec.core.runtimes import RUNTIMES
from edgec.core.table import Table
from edgec.distillers.catalog import DISTILLERS

TABLES: tuple[Table[Any], ...] = (RUNTIMES, DISTILLERS)
