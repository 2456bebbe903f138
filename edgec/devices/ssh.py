"""Boards behind OpenSSH's client: `ssh://user@host[:port]`. Host keys must be known; nothing is asked.

One connection is opened and shared by all commands (ControlMaster), so that a command costs a fraction of a second.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from edgec.core.errors import EdgecError, Problem, RecipeError
from edgec.devices.device import DeviceLost

FOLDER = ".cache/edgec"  # under the user's home there
CONNECT_SECONDS = 10
LOST = 255  # how ssh ends when the connection fails
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*|[0-9A-Fa-f:]+")


class Ssh:
    """`address` as the user gave it; `config` is a file of OpenSSH's, instead of the user's own."""

    folder = FOLDER

    def __init__(self, address: str, config: Path | None = None) -> None:
        self.user, self.host, self.port = parsed(address)
        self.name = address
        self._sockets: tempfile.TemporaryDirectory[str] | None = None
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": str(CONNECT_SECONDS),
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "2",
            "ControlMaster": "auto",
            "ControlPersist": "60",
            "PermitLocalCommand": "no",
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "ClearAllForwardings": "yes",
            "RequestTTY": "no",
            "LogLevel": "ERROR",
        }
        self._options = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        self._options += ["-F", str(config)] if config is not None else []
        self._options += ["-p", str(self.port)] if self.port is not None else []
        self._options += ["-l", self.user] if self.user is not None else []

    def command(self, script: str) -> list[str]:
        assert "'" not in script  # so that every login shell takes it as one word
        return [*self._ssh(), "--", self.host, f"sh -c '{script}'"]

    def _ssh(self) -> list[str]:
        if self._sockets is None:  # of its own, and short: the path of a socket has at most 104 characters
            place = "/tmp" if Path("/tmp").is_dir() else None
            self._sockets = tempfile.TemporaryDirectory(prefix="edgec-", dir=place)
        return ["ssh", "-o", f"ControlPath={self._sockets.name}/%C", *self._options]

    def lost(self, code: int, stderr: str) -> EdgecError | None:
        if code != LOST:
            return None
        tail = " | ".join(line.strip() for line in stderr.strip().splitlines()[-2:]) or "no message"
        return DeviceLost(f"{self.name}: {self._reason(stderr)} ({tail})")

    def _reason(self, stderr: str) -> str:
        place = self.host if self.port is None else f"-p {self.port} {self.host}"
        if "REMOTE HOST IDENTIFICATION HAS CHANGED" in stderr or "Host key for" in stderr:
            return (
                "its host key has changed: another machine may pose as it. If you know that it was set up anew, remove the old "
                f"key with ssh-keygen -R {self._known()}"
            )
        if "Host key verification failed" in stderr:
            return (
                f"its host key is not known; connect once by hand (ssh {place}) and compare the fingerprint"
            )
        if "Permission denied" in stderr:
            return "it refuses the login; put your public key there (ssh-copy-id), and load the key into your agent"
        if "Could not resolve" in stderr:
            return "no machine has this name; check the address, or use the IP address"
        if "Connection refused" in stderr:
            return "nothing listens there; check the port, and that sshd runs"
        if "timed out" in stderr or "No route" in stderr or "unreachable" in stderr:
            return "it does not answer; check that it is on, and reachable from here"
        return "the connection was lost; run the same command again when it is back, it resumes"

    def _known(self) -> str:
        """The name under which known_hosts has it."""
        return self.host if self.port in (None, 22) else f"[{self.host}]:{self.port}"

    def close(self) -> None:
        """End the shared connection."""
        if self._sockets is None:
            return
        command = [*self._ssh(), "-O", "exit", "--", self.host]
        try:
            subprocess.run(command, capture_output=True, timeout=CONNECT_SECONDS, check=False)
        except (OSError, subprocess.SubprocessError):
            pass  # it ends by itself, ControlPersist seconds later
        self._sockets.cleanup()
        self._sockets = None


def parsed(address: str) -> tuple[str | None, str, int | None]:
    """(user, host, port) of an address. Raises RecipeError for one that could be anything else, such as an option."""
    try:
        parts = urlsplit(address)
        user, host, port = parts.username, parts.hostname, parts.port
    except ValueError:
        parts, user, host, port = None, None, None, None
    plain = parts is not None and not (
        parts.path.strip("/") or parts.query or parts.fragment or parts.password
    )
    if parts is not None and host:  # in the case that the user wrote, which ssh's own config may tell apart
        place = parts.netloc.rpartition("@")[2]
        host = place[1:].partition("]")[0] if place.startswith("[") else place.partition(":")[0]
    if not plain or not host or not HOST.fullmatch(host) or (user is not None and not NAME.fullmatch(user)):
        raise RecipeError(
            [
                Problem(
                    f"device {address!r}",
                    "is not the address of a machine",
                    "write ssh://user@host or ssh://user@host:port",
                )
            ]
        )
    return user, host, port
