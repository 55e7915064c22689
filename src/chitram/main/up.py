"""`chitram up`: everything on one machine, in the foreground, until Ctrl-C."""

from __future__ import annotations

import errno
import http.client
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from chitram.platform.embedded.directory import DataDirectory, Running, Starting
from chitram.platform.embedded.errors import StartError
from chitram.platform.embedded.ports import ReservedPort, check_free
from chitram.platform.embedded.postgres import DEFAULT_CONNECTIONS, Postgres, ignore_client_variables
from chitram.platform.embedded.process import StopStep, die_with_parent, start
from chitram.platform.embedded.service import ReadyStep, Service
from chitram.platform.embedded.signals import StopRequested, StopSignals
from chitram.platform.embedded.stack import check_database
from chitram.platform.embedded.supervisor import Supervisor
from chitram.platform.embedded.valkey import Valkey
from chitram.platform.migrations import is_current, upgrade
from chitram.platform.settings import PREFIX, Settings, data_dir, statement_connections

_READY_SECONDS = 60.0
_SPARE_CONNECTIONS = 20
_PROBE_SECONDS = 2.0
# After a kill -9 the kernel may still be ending those who held the port.
_PORT_SECONDS = 1.0
# Longer than the API and the worker give what is under way.
_STOP = (StopStep(signal.SIGTERM, 40),)
# A proxy in the group that owns the objects may have to read them.
_CHILD_UMASK = 0o027
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - read, not bound


def _migrate(database_url: str) -> None:
    if not is_current(database_url):
        upgrade(database_url)


@dataclass(frozen=True, slots=True)
class Program:
    """What `up` runs beside the servers; tests put smaller ones in its place."""

    api: Sequence[str] = (sys.executable, "-m", "chitram.main.cli", "api")
    worker: Sequence[str] = (sys.executable, "-m", "chitram.main.cli", "worker")
    migrate: Callable[[str], None] = _migrate


def run(settings: Settings, program: Program | None = None) -> int:
    """Start everything, keep it running and stop it on a signal; returns the exit status."""
    teller = Teller()
    with StopSignals() as signals:
        _end_with_command_runner()
        try:
            return _Up(settings, program or Program(), signals, teller).run()
        except StartError as error:
            teller.fail(str(error))
            return 1


def _end_with_command_runner() -> None:
    """Be stopped when `just`, which does nothing but wait for this process, is killed.

    Whoever kills what they started would otherwise leave the stack behind, out of sight.
    """
    parent = os.getppid()
    with suppress(OSError):
        if Path("/proc", str(parent), "comm").read_text().strip() == "just":
            die_with_parent(parent, signal.SIGTERM)


class Teller:
    """Tells the user on the terminal what happens, with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def step(self, text: str) -> None:
        """One line about something that begins or has happened."""
        _write(sys.stdout.fileno(), f"{time.monotonic() - self._began:6.1f} s  {text}")

    def ready(self, text: str) -> None:
        """The line that a user, or a script, waits for."""
        _write(sys.stdout.fileno(), text)

    def fail(self, text: str) -> None:
        """Why there is nothing running."""
        _write(sys.stderr.fileno(), f"chitram: {text}")


def _write(descriptor: int, text: str) -> None:
    # A terminal that was closed is no reason to leave servers running.
    with suppress(OSError):
        os.write(descriptor, os.fsencode(f"{text}\n"))


class _Up:
    def __init__(self, settings: Settings, program: Program, signals: StopSignals, teller: Teller) -> None:
        self._directory = DataDirectory(data_dir(settings))
        self._settings = msgspec.structs.replace(settings, data_dir=str(self._directory.path))
        self._program = program
        self._signals = signals
        self._teller = teller
        self._supervisor = Supervisor(signals, teller.step, self._republish)
        self._port: ReservedPort | None = None

    def run(self) -> int:
        self._teller.step(f"data directory {self._directory.path}")
        with self._directory.held(), self._directory.starting() as starting:
            try:
                with suppress(StopRequested, KeyboardInterrupt):
                    self._start(starting)
                    self._signals.hold()
                    self._publish()
                    self._announce()
                    self._supervisor.watch()
                # The next signal is the one that hurries.
                self._signals.forget()
                self._teller.step("stopping; once more to hurry")
            finally:
                self._supervisor.stop()
                self._directory.retract()
        self._teller.step("stopped")
        return 0

    def _start(self, starting: Starting) -> None:
        """Begin everything at once; the API and the worker load meanwhile and wait for `starting` to end."""
        self._choose_port()
        self._choose_secret_keys()
        servers = [service for service in (self._postgres(), self._valkey()) if service]
        host, port = _reachable(self._settings.http_host), self._settings.http_port
        environment = child_environment(self._settings)
        # Stopped in reverse: the API first, so that nothing new reaches the others.
        programs = (
            _child("worker", self._program.worker, environment),
            _child(
                "API",
                self._program.api,
                environment,
                ReadyStep(lambda: _answers(host, port), _READY_SECONDS),
            ),
        )
        begun = [(service, self._supervisor.begin(service)) for service in (*servers, *programs)]
        for service, process in begun[: len(servers)]:
            self._supervisor.await_ready(service, process)
        self._teller.step("database schema")
        self._program.migrate(self._settings.database_url)
        self._teller.step("API and worker")
        starting.end()
        for service, process in begun[len(servers) :]:
            self._supervisor.await_ready(service, process)

    def _choose_port(self) -> None:
        host, port = self._settings.http_host, self._settings.http_port
        try:
            if port == 0:
                # Held as long as this runs: others look for free ports before the API listens, and while it
                # is started again.
                self._port = ReservedPort(host)
                port = self._port.number
            else:
                _await_port(host, port)
        except OSError as error:
            raise _port_refusal(host, port, error) from error
        self._settings = msgspec.structs.replace(self._settings, http_port=port)

    def _choose_secret_keys(self) -> None:
        if not self._settings.secret_keys:
            generated = self._directory.secrets().secret_key
            self._settings = msgspec.structs.replace(self._settings, secret_keys=(generated,))

    def _postgres(self) -> Service | None:
        if self._settings.database_url:
            self._teller.step("PostgreSQL of your own (CHITRAM_DATABASE_URL)")
            check_database(self._settings.database_url)
            return None
        new = not self._directory.cluster.exists()
        self._teller.step("PostgreSQL, with a new database" if new else "PostgreSQL")
        ignore_client_variables()
        postgres = Postgres(self._directory, connections=connections_of(self._settings))
        self._settings = msgspec.structs.replace(self._settings, database_url=postgres.url)
        return postgres.service

    def _valkey(self) -> Service | None:
        if self._settings.valkey_url:
            self._teller.step("Valkey of your own (CHITRAM_VALKEY_URL)")
            return None
        self._teller.step("Valkey")
        valkey = Valkey(self._directory)
        self._settings = msgspec.structs.replace(self._settings, valkey_url=valkey.url)
        return valkey.service

    def _publish(self) -> None:
        settings = self._settings
        self._directory.publish(
            Running(os.getpid(), settings.database_url, settings.valkey_url, self._supervisor.processes)
        )

    def _republish(self) -> None:
        # The URLs have not changed: a full disk is no reason to stop what runs.
        with suppress(StartError):
            self._publish()

    def _announce(self) -> None:
        host, port = _reachable(self._settings.http_host), self._settings.http_port
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._teller.ready(
            f"Chitram is ready at {address} - data in {self._directory.path} - Ctrl-C stops it"
        )


def connections_of(settings: Settings) -> int:
    """Connections that all processes together may open, and some for an administrator."""
    processes = settings.http_workers + 1
    # A pool for reads, a pool for transactions, some for single statements, one for the cache epoch.
    each = 2 * settings.database_pool_size + statement_connections(settings) + 1
    return max(DEFAULT_CONNECTIONS, processes * each + _SPARE_CONNECTIONS)


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment that makes a child's settings these, whatever this process was given."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    for name, value in msgspec.structs.asdict(settings).items():
        text = ",".join(value) if isinstance(value, tuple) else str(value)
        environment[f"{PREFIX}{name.upper()}"] = text
    return environment


def _child(name: str, command: Sequence[str], environment: dict[str, str], *ready: ReadyStep) -> Service:
    return Service(
        name, lambda: start(name, command, environment=environment, umask=_CHILD_UMASK), ready, _STOP
    )


def _reachable(host: str) -> str:
    """An address of this machine that leads to a server listening on `host`."""
    return _WILDCARDS.get(host, host)


def _answers(host: str, port: int) -> bool:
    """Whether the API says that it is ready."""
    connection = http.client.HTTPConnection(host, port, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _await_port(host: str, port: int) -> None:
    deadline = time.monotonic() + _PORT_SECONDS
    while True:
        try:
            return check_free(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _port_refusal(host: str, port: int, error: OSError) -> StartError:
    if error.errno == errno.EADDRINUSE:
        return StartError(
            f"Port {port} on {host} is in use. Stop what uses it, or choose another with CHITRAM_HTTP_PORT."
        )
    if error.errno == errno.EACCES:
        return StartError(f"Port {port} is kept for root. Choose one above 1023 with CHITRAM_HTTP_PORT.")
    reason = error.strerror or str(error)
    return StartError(f"Cannot listen on {host}, port {port}: {reason}. Check CHITRAM_HTTP_HOST.")
