"""The interleaved benchmark: every case on one device, in rounds of fresh processes that take turns: A B A B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgec.bench.candidate import Candidate, Trial
from edgec.bench.figures import latency_from
from edgec.bench.operators import measure_operators
from edgec.bench.ratios import across, slower, speedups
from edgec.bench.trust import Watched, verdict_of
from edgec.core.errors import EdgecError, Missing, StageError
from edgec.core.events import Events
from edgec.core.results.artifact_id import DENSE, AnyArtifact
from edgec.core.results.profile import Case, DeviceEnvironment, DeviceFigures, Failure, OperatorTimes
from edgec.devices.device import Device, DeviceLost, environment_of, latency_on
from edgec.devices.probe_answer import LatencyAnswer
from edgec.onnx.parity import LEAST_DB_TO_GOLDEN
from edgec.recipe import Profile


@dataclass(frozen=True)
class Rounds:
    """Answers of the processes, by case and round; None where a process gave none."""

    answers: Mapping[Case, Sequence[LatencyAnswer | None]]
    failures: tuple[Failure, ...]

    def given(self, trial: Trial) -> list[LatencyAnswer]:
        return [answer for answer in self.answers[trial.case] if answer is not None]


def measure_on(
    device: Device, candidates: Sequence[Candidate], config: Profile, events: Events, stage: str,
    base: AnyArtifact | None = None, failures: Sequence[Failure] = (),
) -> DeviceFigures:  # fmt: skip
    """Measure and compare on one device, in `config.processes` rounds that each visit every case once.

    `failures` are those known before. Ratios are to `base` where it is given, else to the dense artifact, else to the first.
    Raises Missing or StageError when nothing could be measured.
    """
    before = environment_of(device)
    trials = trials_of(candidates, config, before.cores, device.name, events, stage)
    rounds = measure_rounds(device, trials, config, events, stage)
    measured = [trial for trial in trials if rounds.given(trial)]
    failed = (*failures, *rounds.failures)
    if not measured:
        raise_first(failed)
    names = [trial.candidate.artifact for trial in measured]
    base = base or (DENSE if DENSE in names else names[0])
    ratios = speedups(measured, rounds.answers, base)
    lost = any(failure.kind == "lost" for failure in failed)
    operators = {} if lost else measure_operators(device, measured, config, events, stage)
    watched = [
        Watched(
            trial.threads,
            trial.candidate.processor == "cpu",
            answer.wall_cpu_ratio,
            answer.involuntary_switches,
            answer.measured_seconds,
        )
        for trial in measured
        for answer in rounds.given(trial)
    ]
    verdict, reasons = verdict_of(watched, before)
    if verdict != "quiet":
        events.note(f"verdict on {device.name}: {verdict} ({'; '.join(reasons)})", "warning", stage)
    return DeviceFigures(
        device=device.name,
        environment=_after(before, [answer for trial in measured for answer in rounds.given(trial)]),
        verdict=verdict,
        reasons=reasons,
        cells=tuple(latency_from(trial, rounds.given(trial)) for trial in measured),
        speedups=ratios,
        across=across(measured, rounds.answers, base),
        operators=tuple(
            OperatorTimes(artifact=artifact, runtime=runtime, operators=answer.operators, types=answer.types)
            for (artifact, runtime), answer in operators.items()
        ),
        slower=slower(ratios, operators),
        failures=failed,
    )


def _after(before: DeviceEnvironment, answers: Sequence[LatencyAnswer]) -> DeviceEnvironment:
    """The device with what only measuring processes know: the versions that they loaded, and whether they were pinned."""
    versions = dict(before.versions)
    for answer in answers:
        versions |= answer.versions
    pinned = any(answer.pinned for answer in answers)
    return before.model_copy(update={"versions": versions, "pinned": pinned})


def trials_of(
    candidates: Sequence[Candidate], config: Profile, cores: int, device: str, events: Events, stage: str
) -> list[Trial]:
    """Candidates by threads and batches. Batches above 1 go with one count of threads, where the file takes them."""
    counts = tuple(dict.fromkeys(config.threads or (1, cores)))
    if max(counts) > cores:
        events.note(
            f"{max(counts)} threads on the {cores} cores of {device}: they will wait for each other",
            "warning",
            stage,
        )
    more = [batch for batch in dict.fromkeys(config.batches) if batch != 1]
    if more and not any(candidate.open_batch for candidate in candidates):
        events.note(
            f"no artifact takes a batch of {', '.join(map(str, more))}: export with dynamic_batch: true",
            "warning",
            stage,
        )
    trials = [
        Trial(c, threads)
        for threads in counts
        for c in candidates
        if c.processor == "cpu" or threads == counts[0]
    ]
    return trials + [Trial(c, counts[0], batch) for batch in more for c in candidates if c.open_batch]


def measure_rounds(
    device: Device, trials: Sequence[Trial], config: Profile, events: Events, stage: str
) -> Rounds:
    """One fresh process per trial and round. A trial that failed once is not tried again; a lost device ends the rounds."""
    answers: dict[Case, list[LatencyAnswer | None]] = {trial.case: [] for trial in trials}
    failures: dict[Case, Failure] = {}
    lost = False
    total = config.processes * len(trials)
    for round_index in range(config.processes):
        for index, trial in enumerate(trials):
            on = "" if device.name == "local" else f" on {device.name}"
            what = f"latency of {trial.candidate.artifact}{on}"
            events.progress(what)(round_index * len(trials) + index, total)
            answer = None
            if trial.case not in failures and not lost:
                try:
                    answer = latency_on(device, trial.job(config))
                    _check_numbers(trial, answer, device.name)
                except EdgecError as error:
                    answer = None
                    lost = isinstance(error, DeviceLost)
                    failures[trial.case] = _failure(trial, device.name, error)
                    events.note(str(error), "error", stage)
            answers[trial.case].append(answer)
    for case, failure in failures.items():  # an artifact that gives wrong numbers has no latency
        if failure.kind != "lost":
            answers[case] = [None] * len(answers[case])
    events.progress("latency")(total, total)
    return Rounds(answers, tuple(failures.values()))


def _failure(trial: Trial, device: str, error: EdgecError) -> Failure:
    case = trial.case
    kind = "lost" if isinstance(error, DeviceLost) else "missing" if isinstance(error, Missing) else "failed"
    return Failure(
        artifact=case.artifact,
        runtime=case.runtime,
        threads=case.threads,
        batch=case.batch,
        device=device,
        kind=kind,
        error=str(error),
    )


def _check_numbers(trial: Trial, answer: LatencyAnswer, device: str) -> None:
    """Raises StageError when the outputs on the device are not those of the golden file."""
    candidate = trial.candidate
    reached, least = (
        answer.snr_db,
        LEAST_DB_TO_GOLDEN.get(candidate.precision, min(LEAST_DB_TO_GOLDEN.values())),
    )
    if reached is not None and not reached >= least:
        raise StageError(
            f"{candidate.artifact} in {candidate.runtime} on {device}: its outputs are {reached:.1f} dB from the golden "
            f"ones, less than {least:g}: wrong numbers on this device; update the runtime there, or ship another precision"
        )


def raise_first(failures: Sequence[Failure]) -> None:
    """Nothing was measured: raise why. Raises Missing or StageError."""
    if not failures:
        raise StageError("there is nothing to profile; name an artifact")
    absent = all(failure.kind in ("missing", "lost") for failure in failures)
    kind = Missing if absent else StageError
    raise kind("; ".join(dict.fromkeys(failure.error for failure in failures)))
