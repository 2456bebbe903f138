"""Whether devices answer, and what they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgec.core.errors import EdgecError
from edgec.core.frozen import Frozen
from edgec.core.results.profile import DeviceEnvironment
from edgec.devices.device import Device, environment_of
from edgec.devices.inventory import boards, open_devices


class DeviceCheck(Frozen):
    """What a device answered. `environment` is None where `error` says why it did not."""

    device: str
    address: str
    environment: DeviceEnvironment | None = None
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `edgec devices --json` prints it: "environment" is empty where the device did not answer."""
        environment = (
            {} if self.environment is None else self.environment.model_dump(mode="json", exclude_unset=True)
        )
        return {
            "device": self.device,
            "environment": environment,
            "error": self.error,
            "address": self.address,
        }


def check_devices(names: Sequence[str] = ()) -> list[DeviceCheck]:
    """What the named devices are, or this machine and all of the device file. Raises RecipeError for names that are unknown."""
    known = boards()
    addresses = {name: board.address for name, board in known.items()}
    return [
        _check(device, addresses.get(device.name, device.name))
        for device in open_devices(names or ("local", *known))
    ]


def _check(device: Device, address: str) -> DeviceCheck:
    try:
        return DeviceCheck(device=device.name, address=address, environment=environment_of(device))
    except EdgecError as error:
        return DeviceCheck(device=device.name, address=address, error=str(error))
    finally:
        device.close()
