"""A stage of the user's own: any function that changes a network."""

from __future__ import annotations

from edgec.core.architectures import resolve_dotted
from edgec.core.errors import RecipeError, StageError
from edgec.core.network import Network
from edgec.core.results.other import CustomResult
from edgec.core.results.stage import StageResult
from edgec.env import Env
from edgec.recipe import Custom


def custom(config: Custom, network: Network, env: Env) -> tuple[Network, StageResult]:
    """Run the function that the config names. It returns the network, and a result or any mapping that is JSON.

    Raises RecipeError without --allow-code, and StageError where it does not return a network and its metrics.
    """
    place = f"stages.{env.stage}.function {config.function!r}"
    if not env.allow_code:
        raise RecipeError(f"{place} is your own code; pass --allow-code")
    returned = resolve_dotted(config.function)(config, network, env)
    try:
        changed, metrics = returned
        if not isinstance(changed, Network):
            raise TypeError(f"the first is a {type(changed).__name__}")
        return changed, metrics if isinstance(metrics, StageResult) else CustomResult.of(metrics)
    except (TypeError, ValueError, AttributeError) as error:
        raise StageError(
            f"{place} must return (network, metrics), the metrics a mapping that JSON can hold: {error}"
        ) from error
