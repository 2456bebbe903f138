"""An OpenSSH server on this machine that stands for a board, and a program that stands for adb."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").is_file() else None)


def keypair(path: Path) -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, stdin=subprocess.DEVNULL
    )
    return path


@dataclass
class Board:
    """`home` is where its commands start; `known` is the client's file of host keys."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def known(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def config(self) -> Path:
        return self.folder / "client_config"

    @property
    def copies(self) -> Path:
        return self.home / ".cache" / "edgec"

    def entry(self, name: str = "board", python: str = sys.executable) -> str:
        """Its entry in a device file."""
        return f"{name}:\n  address: {self.address}\n  python: {python}\n  ssh_config: {self.config}\n"

    def know(self, key: Path) -> None:
        public = key.with_suffix(".pub").read_text().split()
        self.known.write_text(f"[127.0.0.1]:{self.port} {public[0]} {public[1]}\n")

    def stop(self) -> None:
        """The server and all its sessions, as when the plug is pulled."""
        if self.process.poll() is not None:
            return
        for process in _below(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


def _below(parent: int) -> list[int]:
    """Processes that descend from one, the deepest first."""
    import psutil

    return [p.pid for p in reversed(psutil.Process(parent).children(recursive=True))]


def start(folder: Path) -> Board:
    """Start a server whose commands run in `folder`/home, after the greeting of a login shell."""
    assert SSHD is not None
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    (folder / "home").mkdir(parents=True)
    host, user = keypair(folder / "host_key"), keypair(folder / "user_key")
    shutil.copy(user.with_suffix(".pub"), folder / "authorized_keys")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    home = folder / "home"
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {host}\nAuthorizedKeysFile {folder}/authorized_keys\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\n"
        "PermitRootLogin yes\n"
        f"ForceCommand cd {home}; export HOME={home} EDGEC_LEASES={home}; echo Welcome to the board; "
        'eval "$SSH_ORIGINAL_COMMAND"\n'
    )
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    board = Board(folder, port, process)
    board.config.write_text(
        f"Host *\n IdentityFile {user}\n IdentitiesOnly yes\n IdentityAgent none\n UserKnownHostsFile {board.known}\n"
        " GlobalKnownHostsFile none\n"
    )
    board.know(host)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return board
        except OSError:
            time.sleep(0.05)
    raise RuntimeError((folder / "sshd.log").read_text())


class Shell:
    """A transport to this machine's own shell."""

    name = "shell"

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def command(self, script: str) -> list[str]:
        return ["sh", "-c", script]

    def lost(self, code: int, stderr: str) -> None:
        return None

    def close(self) -> None:
        pass


ADB = """#!/bin/sh
# `adb -s SERIAL shell -T SCRIPT` of a phone whose /data/local/tmp is {home}
if [ "$2" != R58M123 ]; then echo "error: device '$2' not found" >&2; exit 1; fi
if [ -e {home}/gone ]; then echo "error: device offline" >&2; exit 1; fi
script=$(printf %s "$5" | sed "s#/data/local/tmp#{home}#g")
case "$script" in
  *"probe.pyz; exit"*) sed "s#/data/local/tmp#{home}#g" | sh -c "$script" ;;
  *) exec sh -c "$script" ;;
esac
"""


def fake_adb(folder: Path) -> Path:
    """Puts an `adb` into `folder`/bin; gives the folder that stands for /data/local/tmp."""
    home = folder / "phone"
    home.mkdir()
    program = folder / "bin" / "adb"
    program.parent.mkdir()
    program.write_text(ADB.format(home=home))
    program.chmod(0o755)
    return home
