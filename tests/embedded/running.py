"""`chitram up` as a process of its own, and what it leaves behind."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from chitram.platform.embedded import cluster
from chitram.platform.embedded.process import readable
from chitram.platform.embedded.processes import marked

STAND_INS = Path(__file__).with_name("stand_ins.py")
SECONDS = 60


class Up:
    """One run of the command on a data directory; `variables` are settings without their prefix."""

    def __init__(self, place: Path, *flags: str, **variables: str) -> None:
        environment = {"DATA_DIR": str(place), "HTTP_PORT": "0", **variables}
        self.place = place
        self.process = subprocess.Popen(
            [sys.executable, STAND_INS, "up", *flags],
            env=os.environ | {f"CHITRAM_{name}": value for name, value in environment.items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []

    def until(self, words: str) -> str:
        """The next line of standard output that holds `words`."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            if words in line:
                return self.said[-1]
        raise AssertionError(f"{words!r} was not said: {self.said}, {self.process.communicate()}")

    def until_ready(self) -> str:
        """The address."""
        return self.until("Chitram is ready at ").split()[4]

    @property
    def running(self) -> dict[str, int]:
        """Process ids by name, as written down for other commands."""
        processes: dict[str, int] = json.loads((self.place / "run" / "servers.json").read_text())["processes"]
        return processes

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Wait for the end; the exit status and standard error.

        Both outputs end only with the last process that was given them.
        """
        _, errors = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, errors


def answer(address: str) -> Any:
    """The settings with which the stand-in for the API runs."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=SECONDS)
    connection.request("GET", "/")
    found = json.load(connection.getresponse())
    connection.close()
    return found


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def environment(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def left_on(place: Path) -> list[str]:
    """Command lines of what still runs for a data directory."""
    files = place / "postgres"
    servers = set(marked(cluster.marker(files), files.stat().st_uid)) if files.exists() else set()
    found = []
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        # The environment of a zombie is empty.
        with suppress(OSError):
            if environment(pid).get("CHITRAM_DATA_DIR") == str(place) or pid in servers:
                found.append(command_line(pid))
    return found


def await_gone(pids: list[int]) -> list[int]:
    """Descriptors for `gone`, to be taken while the processes still run."""
    return [os.pidfd_open(pid) for pid in pids]


def gone(pidfds: list[int]) -> bool:
    ended = [bool(readable([pidfd], 10)) for pidfd in pidfds]
    for pidfd in pidfds:
        os.close(pidfd)
    return all(ended)
