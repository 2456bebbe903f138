"""Where the time of one artifact goes that another does not spend."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from edgec.bench.candidate import Trial
from edgec.core.errors import EdgecError
from edgec.core.events import Events
from edgec.core.results.artifact_id import AnyArtifact
from edgec.core.results.profile import ExtraTime, OperatorTime
from edgec.core.runtimes import tells_operators
from edgec.devices.device import Device, operators_on
from edgec.devices.probe_answer import OperatorsAnswer
from edgec.recipe import Profile

LEAST_EXTRA = 0.005  # share of the other artifact's total; less is noise
TOP = 10


def measure_operators(
    device: Device, trials: Sequence[Trial], config: Profile, events: Events, stage: str
) -> dict[tuple[AnyArtifact, str], OperatorsAnswer]:
    """Time by operator with one thread, by artifact and runtime, each in one more process; one that fails is left out."""
    candidates = {
        (c.artifact, c.runtime): c for c in (t.candidate for t in trials) if tells_operators(c.runtime)
    }
    answers: dict[tuple[AnyArtifact, str], OperatorsAnswer] = {}
    for index, (key, candidate) in enumerate(candidates.items()):
        events.progress(f"operators of {candidate.artifact}")(index, len(candidates))
        try:
            answer = operators_on(device, Trial(candidate, 1).job(config, "operators"))
        except EdgecError as error:
            events.note(f"time by operator: {error}", "warning", stage)
            continue
        if answer.operators:
            answers[key] = answer
    return answers


def extra_times(slow: OperatorsAnswer, other: OperatorsAnswer) -> tuple[ExtraTime, ...]:
    """Operator types, then layers that both have, that cost more in `slow` than in `other`, dearest first."""
    least = LEAST_EXTRA * max(other.total_ms, 1e-9)
    types = [_extra("", name, ms, other.types.get(name, 0.0)) for name, ms in slow.types.items()]
    counterpart = _layers(other)
    layers = [
        _extra(row.name, row.type, row.ms, counterpart[name].ms)
        for name, row in _layers(slow).items()
        if name in counterpart
    ]
    return (*_dearest(types, least), *_dearest(layers, least))


def _layers(answer: OperatorsAnswer) -> dict[str, OperatorTime]:
    """Operators by layer name; those that the optimizer made, of which several share a name, are left out."""
    names = Counter(layer_name(row.name) for row in answer.operators)
    rows = {layer_name(row.name): row for row in answer.operators}
    return {name: row for name, row in rows.items() if names[name] == 1 and name != row.type}


def layer_name(name: str) -> str:
    """A node's name without what optimizers, quantizers and other runtimes add to it, so that layers can be compared."""
    name = re.sub(r"(_nchwc|_quant|_fp16|_token_\d+|_fused|_kernel|/fused|/WithoutBiases)+$", "", name)
    return re.sub(r"^(InsertedPrecisionFreeCast_|node_)+", "", name)


def _extra(name: str, kind: str, ms: float, against_ms: float) -> ExtraTime:
    return ExtraTime(
        name=name,
        type=kind,
        ms=round(ms, 6),
        against_ms=round(against_ms, 6),
        extra_ms=round(ms - against_ms, 6),
    )


def _dearest(rows: Sequence[ExtraTime], least: float) -> list[ExtraTime]:
    return sorted((r for r in rows if r.extra_ms > least), key=lambda r: -r.extra_ms)[:TOP]
