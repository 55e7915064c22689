"""The data directory: its layout, its lock, its secrets and the addresses of what runs on it."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from chitram.platform.embedded.errors import StartError, disk_full, explained

# A new cluster takes 40 MB, its first write-ahead log 16 MB and a copy of the binaries 30 MB.
_FIRST_START_BYTES = 160 << 20
# One more segment of write-ahead log, with room for an upload or two.
_START_BYTES = 48 << 20
_PASSWORD_BYTES = 24
_KEY_BYTES = 32


class InUse(StartError):
    """Another process holds the data directory; `pid` is None when that is not known."""

    def __init__(self, path: Path, pid: int | None) -> None:
        self.pid = pid
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"The data directory {path} is in use by {holder}. "
            "Stop that one, or choose another place with CHITRAM_DATA_DIR."
        )


class Secrets(msgspec.Struct, frozen=True):
    """Passwords that were generated for the servers of one data directory, and a key to sign with."""

    postgres_superuser: str
    postgres: str
    valkey: str
    secret_key: str = ""


class Running(msgspec.Struct, frozen=True):
    """What runs on a data directory: URLs with passwords, process ids by name.

    Attributes:
        supervisor: process id of the holder of the lock.
    """

    supervisor: int
    database_url: str
    valkey_url: str
    processes: dict[str, int]


class Starting:
    """A start under way; it ends with this process at the latest."""

    def __init__(self, lock: int) -> None:
        fcntl.flock(lock, fcntl.LOCK_EX)
        self._lock: int | None = lock

    def end(self) -> None:
        """Let those go on who wait."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class DataDirectory:
    """One data directory. As root its top lets `nobody` pass; everything below it is private."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cluster = path / "postgres"
        self.binaries = path / "binaries"
        self.logs = path / "logs"
        self._run = path / "run"
        self._lock = path / "lock"
        self._secrets = path / "secrets.json"
        self._servers = self._run / "servers.json"
        self._starting = self._run / "starting"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the directory ready and hold its lock, which ends with this process at the latest.

        Raises `InUse`, or another `StartError` when it cannot be written to or is nearly full.
        """
        try:
            self._make()
            lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise explained(error, self.path) from error
        try:
            self._take(lock)
            yield
        finally:
            os.close(lock)

    def _make(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        root = os.geteuid() == 0
        new = next(self.path.iterdir(), None) is None
        if new and (root or self.path.stat().st_uid == os.geteuid()):
            self.path.chmod(0o711 if root else 0o700)

    def _take(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(self.path, self._holder()) from None
        try:
            self._check_space()
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
            for folder in (self.logs, self._run):
                folder.mkdir(mode=0o700, exist_ok=True)
            self._servers.unlink(missing_ok=True)
        except OSError as error:
            raise explained(error, self.path) from error

    def _holder(self) -> int | None:
        with suppress(OSError, ValueError):
            return int(self._lock.read_text())
        return None

    def _check_space(self) -> None:
        needed = _START_BYTES if self.cluster.exists() else _FIRST_START_BYTES
        if shutil.disk_usage(self.path).free < needed:
            raise disk_full(self.path)

    def secrets(self) -> Secrets:
        """Read the generated passwords, making them the first time."""
        try:
            return self._completed(msgspec.json.decode(self._secrets.read_bytes(), type=Secrets))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise explained(error, self._secrets) from error
        except msgspec.DecodeError as error:
            raise StartError(f"{self._secrets} is damaged. Bring it back from a backup.") from error
        if self.cluster.exists():
            raise StartError(
                f"{self._secrets} is missing, without which the database in {self.cluster} stays "
                "closed. Bring it back from a backup."
            )
        made = Secrets(*(secrets.token_urlsafe(_PASSWORD_BYTES) for _ in range(3)))
        return self._completed(made)

    def _completed(self, read: Secrets) -> Secrets:
        """Add what directories of earlier releases lack."""
        if read.secret_key:
            return read
        complete = msgspec.structs.replace(read, secret_key=secrets.token_urlsafe(_KEY_BYTES))
        _write_private(self._secrets, msgspec.json.encode(complete))
        return complete

    @contextmanager
    def starting(self) -> Iterator[Starting]:
        """Have those who call `await_started` wait: for the end of the start, or else of the block."""
        try:
            starting = Starting(os.open(self._starting, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise explained(error, self._starting) from error
        try:
            yield starting
        finally:
            starting.end()

    def await_started(self) -> None:
        """Return once the servers of this directory can be used, at once when nobody is starting them."""
        try:
            lock = os.open(self._starting, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
        finally:
            os.close(lock)

    def publish(self, running: Running) -> None:
        """Write down what runs, for commands on the same machine."""
        _write_private(self._servers, msgspec.json.encode(running))

    def retract(self) -> None:
        """Nothing runs any more."""
        with suppress(OSError):
            self._servers.unlink()

    def published(self) -> Running | None:
        """What runs, if the present holder of the lock has written it down."""
        try:
            running = msgspec.json.decode(self._servers.read_bytes(), type=Running)
        except (OSError, msgspec.DecodeError):
            return None
        return running if running.supervisor == self._holder() else None


def _write_private(path: Path, content: bytes) -> None:
    """Replace a file that only its owner may read, durably and never half."""
    temporary = path.with_name(f"{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise explained(error, path) from error


def sync_directory(path: Path) -> None:
    """Make renames in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
