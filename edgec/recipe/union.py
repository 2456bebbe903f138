"""Unions of a recipe that installed packages can add to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, GetCoreSchemaHandler, ValidatorFunctionWrapHandler
from pydantic_core import CoreSchema, core_schema

from edgec.core.errors import ExtensionError
from edgec.core.table import Table


@dataclass(frozen=True)
class OfPackages:
    """Stands behind a union of edgec's own configs, which the key `key` distinguishes: what a package declares in `table`
    under another name is checked by its own config, `config(row)`.
    """

    table: Table[Any]
    key: str
    config: Callable[[Any], type[BaseModel]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        own = handler(source)
        # by the value's own type: what packages bring is none of the union
        as_it_is = core_schema.wrap_serializer_function_ser_schema(_as_it_is, schema=core_schema.any_schema())
        return core_schema.no_info_wrap_validator_function(self._validate, own, serialization=as_it_is)

    def _validate(self, value: object, own: ValidatorFunctionWrapHandler) -> object:
        row = self._row(value)
        return own(value) if row is None else self.config(row).model_validate(value)

    def _row(self, value: object) -> object | None:
        """The row of a package that the value names; None for edgec's own, and for what nobody knows."""
        if isinstance(value, Mapping):
            name = cast("Mapping[str, object]", value).get(self.key)
        else:
            name = getattr(value, self.key, None)
        if not isinstance(name, str) or any(row.name == name for row in self.table.own):
            return None
        try:
            return self.table.find(name)
        except ExtensionError as error:
            raise ValueError(str(error)) from None


def _as_it_is(value: Any, serialize: Callable[[Any], Any]) -> Any:
    return serialize(value)
