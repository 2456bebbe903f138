"""Phones and boards behind Android's debug bridge: `adb://serial`."""

from __future__ import annotations

import re

from edgec.core.errors import EdgecError, Problem, RecipeError
from edgec.devices.device import DeviceLost

FOLDER = "/data/local/tmp/edgec"
SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")  # also of a device in the network, host:port


class Adb:
    folder = FOLDER

    def __init__(self, address: str) -> None:
        self.name = address
        self.serial = address.removeprefix("adb://")
        if not SERIAL.fullmatch(self.serial):
            raise RecipeError(
                [
                    Problem(
                        f"device {address!r}",
                        "is not a serial number",
                        "write adb://SERIAL, as `adb devices` shows it",
                    )
                ]
            )

    def command(self, script: str) -> list[str]:
        assert "'" not in script
        return ["adb", "-s", self.serial, "shell", "-T", f"sh -c '{script}'"]

    def lost(self, code: int, stderr: str) -> EdgecError | None:
        """adb ends with 1 both for its own errors and for a command's; its own begin so."""
        lines = [line.strip() for line in stderr.splitlines()]
        message = next((line for line in lines if line.startswith(("error: ", "adb: "))), None)
        if code != 1 or message is None:
            return None
        if "unauthorized" in message:
            remedy = "allow USB debugging for this computer on its screen"
        elif "offline" in message:
            remedy = "plug it in again, or `adb reconnect`"
        else:
            remedy = "`adb devices` lists what is connected"
        return DeviceLost(f"{self.name}: {message.removeprefix('error: ').removeprefix('adb: ')}; {remedy}")

    def close(self) -> None:
        """adb's server is the user's, and stays."""
