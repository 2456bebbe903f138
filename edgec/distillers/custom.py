"""The user's own distiller, `package.module:function`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, JsonValue

from edgec.distillers.distiller import DistillationBatch, DistillerSpec, Losses, each_tap
from edgec.distillers.term import TappedTerm

if TYPE_CHECKING:
    pass


class CustomTerm(TappedTerm):
    """The user's own distiller: `package.module:function`, behind --allow-code."""

    kind: Literal["custom"]
    function: str = Field(
        description="`package.module:function`; takes student and teacher features, returns a scalar."
    )
    options: dict[str, JsonValue] = Field(default={}, description="Keyword arguments of the function.")

    def modules(self) -> tuple[str, ...]:
        return (self.function.partition(":")[0],)


def terms(term: CustomTerm, batch: DistillationBatch) -> Losses:
    """At every tap. Raises NetworkError where the function cannot be imported."""
    from edgec.core.architectures import resolve_dotted

    function = resolve_dotted(term.function)
    return each_tap(batch, lambda s, t: function(s, t, **term.options))


CUSTOM = DistillerSpec("custom", CustomTerm, terms, own_code=True)
