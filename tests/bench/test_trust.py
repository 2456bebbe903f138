"""How far times can be trusted: signs that something else was at work."""

from __future__ import annotations

from edgec.bench.trust import Watched, verdict_of
from edgec.core.results.profile import DeviceEnvironment


def process(wall: float = 1.0, switches: int = 0, threads: int = 1) -> Watched:
    return Watched(threads, True, wall, switches, measured_seconds=1.0)


def machine(busy: float | None, load: float | None, cores: int = 2) -> DeviceEnvironment:
    return DeviceEnvironment(cpu="a CPU", cores=cores, busy_cores=busy, load_average=load)


def test_verdicts() -> None:
    # the load may be what we did ourselves
    assert verdict_of([process()] * 3, machine(0.5, 9.0)) == ("quiet", ())
    verdict, reasons = verdict_of([process()] * 3, machine(1.0, 0.0))
    assert verdict == "busy: ratios only"
    assert "1.0 of 2 cores at work" in reasons[0]
    assert verdict_of([process()] * 3, machine(None, 0.5)) == ("quiet", ())
    verdict, reasons = verdict_of([process()] * 3, machine(None, 7.0))
    assert verdict == "busy: ratios only"
    assert "7.0 on 2 cores" in reasons[0]
    assert verdict_of([process(switches=300)] * 3, machine(0.0, 0.0))[0] == "busy: ratios only"
    assert verdict_of([process(wall=1.2)] * 3, machine(None, None))[0] == "busy: ratios only"
    assert verdict_of([process(wall=3.0)] * 3, machine(0.0, 0.0))[0] == "unusable"
    assert verdict_of([], machine(0.0, 0.0))[0] == "unusable"


def test_threads_that_wait_for_each_other_are_not_a_busy_machine() -> None:
    assert verdict_of([process(), process(wall=5.0, threads=4)], machine(0.0, 0.0, 4)) == ("quiet", ())


def test_waiting_for_a_gpu_is_not_a_busy_machine() -> None:
    on_gpu = Watched(1, on_cpu=False, wall_cpu_ratio=9.0, involuntary_switches=0, measured_seconds=1.0)
    assert verdict_of([process(), on_gpu], machine(0.0, 0.0)) == ("quiet", ())


def test_a_program_that_reports_nothing_says_nothing_of_the_machine() -> None:
    verdict, reasons = verdict_of([Watched(1), process()], machine(0.0, 0.0))
    assert verdict == "busy: ratios only"
    assert "nothing says that it ran alone" in reasons[0]
