"""Where a runtime runs: this machine, a board behind ssh, a phone behind adb. All answer the same jobs."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from pydantic import JsonValue

from edgec.core.errors import Missing
from edgec.core.events import Events
from edgec.core.results.profile import DeviceEnvironment
from edgec.devices.probe_answer import LatencyAnswer, OperatorsAnswer, read_answer, subject_of
from edgec.devices.probe_job import ProbeJob

SAFE = re.compile(r"[A-Za-z0-9_./+~-]+")  # what may stand in a command of sh without quotes


class DeviceLost(Missing):
    """The device cannot be reached, or not any more: nothing else is tried on it."""


class Device(Protocol):
    @property
    def name(self) -> str:
        """What the user calls it: "local", an address, or a name of the device file."""
        ...

    def lease(self, events: Events) -> AbstractContextManager[None]:
        """Nobody else measures on the device meanwhile. Waits, and says so, until that is so."""
        ...

    def environment(self) -> dict[str, JsonValue]:
        """`edgec.probe.describe.environment` of the device. Raises Missing (DeviceLost) when it does not answer."""
        ...

    def probe(self, job: ProbeJob, deadline_s: float | None = None) -> dict[str, JsonValue]:
        """Run a job of `edgec.probe` in a fresh process there, with the files that it names.

        Raises DeviceLost when the device does not answer, Missing when the runtime is not installed, StageError when the
        artifact cannot be measured, the process crashed, or it took longer than `deadline_s`.
        """
        ...

    def close(self) -> None:
        """Remove what was copied, end connections. Never raises."""
        ...


def latency_on(device: Device, job: ProbeJob) -> LatencyAnswer:
    """The figures of one measuring process on a device. Raises what `Device.probe` raises."""
    return read_answer(LatencyAnswer, device.probe(job), f"{subject_of(job)} on {device.name}")


def operators_on(device: Device, job: ProbeJob) -> OperatorsAnswer:
    """Time by operator on a device. Raises what `Device.probe` raises."""
    return read_answer(OperatorsAnswer, device.probe(job), f"{subject_of(job)} on {device.name}")


def environment_of(device: Device) -> DeviceEnvironment:
    """What a device says of itself. Raises what `Device.environment` raises."""
    return read_answer(DeviceEnvironment, device.environment(), device.name)


def waiting_for(name: str, events: Events) -> Callable[[], None]:
    """Says once that another measurement is awaited."""
    return lambda: events.note(
        f"another measurement runs on {name}; waiting until it ends", "warning", "profile"
    )
