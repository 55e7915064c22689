"""Valkey: a client that gives up quickly, because everything works without it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog
from valkey.asyncio import Valkey
from valkey.asyncio.connection import AbstractConnection
from valkey.exceptions import NoScriptError, ResponseError, ValkeyError

from chitram.platform.looks import finishes
from chitram.platform.settings import Settings
from chitram.platform.valkey_pipe import Pipe

CONNECT_SECONDS = 1.0
COMMAND_SECONDS = 2.0
OPEN_SECONDS = 1.0
# Far more than a server in health lets anyone wait, and still little for a request.
TURN_SECONDS = 0.2
# Each call at a time has a connection of its own; more would only wait for each other's processor.
_CALLS_AT_ONCE = 32

_RUN_ID = "chitram_run_id"
_RUN_ID_LINE = re.compile(rb"^run_id:([0-9a-zA-Z]+)\r?$", re.MULTILINE)

# Makes the words of a command out of the id of the run of the server that gets it.
RunCommand = Callable[[str], tuple[str | bytes | int, ...]]

_T = TypeVar("_T")

_log = structlog.get_logger("chitram.valkey")


def make_valkey(settings: Settings, *, command_seconds: float = COMMAND_SECONDS) -> Valkey:
    """Make a client; connects when first used.

    Args:
        settings: names the server.
        command_seconds: longest wait for an answer; more for commands that wait on purpose.
    """
    client: Valkey = Valkey.from_url(
        settings.valkey_url,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=command_seconds,
        socket_keepalive=True,
        health_check_interval=15,
        valkey_connect_func=_greet,
    )
    return client


async def _greet(connection: AbstractConnection) -> None:
    """Log in, and learn which run of which server is at the other end of this connection."""
    vars(connection)[_RUN_ID] = None
    await connection.on_connect()
    await connection.send_command("INFO", "server", check_health=False)
    # What only speaks the protocol of Valkey may tell nothing of itself, or refuse to.
    with contextlib.suppress(ResponseError):
        facts = await connection.read_response()
        if isinstance(facts, bytes) and (found := _RUN_ID_LINE.search(facts)):
            vars(connection)[_RUN_ID] = found[1].decode()


async def execute_on_run(client: Valkey, command: RunCommand) -> Any:  # noqa: ANN401 - as various as commands
    """Send a command that is made for the very run of the server that gets it.

    A server that is started again, or another that takes its place, has another run id, even when
    it brings data back. A key with the run id in it can therefore not be found there.

    Args:
        client: lends a connection.
        command: makes the words of the command out of the run id.

    Raises `ValkeyError`, also when the server does not tell its run id.
    """
    pool = client.connection_pool
    connection = await pool.get_connection("")  # type: ignore[no-untyped-call]  # valkey-py leaves it so
    try:
        await connection.send_command(*command(_run_of(connection)))
        return await connection.read_response()
    finally:
        await pool.release(connection)


def _run_of(connection: AbstractConnection) -> str:
    if (run := vars(connection)[_RUN_ID]) is None:
        raise ValkeyError("the server does not tell its run id")
    return str(run)


async def _open_pipe(client: Valkey) -> Pipe:
    pool = client.connection_pool
    connection = await pool.get_connection("")  # type: ignore[no-untyped-call]  # valkey-py leaves it so
    try:
        return Pipe(connection, pool, _run_of(connection))
    except BaseException:
        await pool.release(connection)
        raise


class Script:
    """A Lua script that the server knows by its hash once it has seen it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._hash = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def execute(self, client: Valkey, keys: Sequence[str], *arguments: str | bytes | int) -> Any:  # noqa: ANN401 - as various as scripts
        """Run it.

        The client's own scripts ask before each run whether the client is a pipeline, for which
        Python looks through all its hundreds of commands.
        """
        words = (len(keys), *keys, *arguments)
        try:
            return await client.execute_command("EVALSHA", self._hash, *words)  # type: ignore[no-untyped-call]  # valkey-py leaves it so
        except NoScriptError:
            return await client.execute_command("EVAL", self._text, *words)  # type: ignore[no-untyped-call]

    async def execute_on_run(
        self, client: Valkey, keys: Callable[[str], Sequence[str]], *arguments: str | bytes | int
    ) -> Any:  # noqa: ANN401 - as various as scripts
        """Run it on keys made out of the run id, as `execute_on_run` does with a command."""

        def command(verb: str, script: str, run: str) -> tuple[str | bytes | int, ...]:
            named = keys(run)
            return (verb, script, len(named), *named, *arguments)

        try:
            return await execute_on_run(client, partial(command, "EVALSHA", self._hash))
        except NoScriptError:
            return await execute_on_run(client, partial(command, "EVAL", self._text))


class ValkeyUnavailable(Exception):
    """Valkey did not do what it was asked, or not in time; it may still do it later."""


class ValkeyGuard:
    """Calls of Valkey by those who can do without it, and must not be kept waiting.

    A circuit breaker, one for each process: after a failure every call fails at once for
    `open_seconds`, then a single one tries again, and its success lets all through.

    Args:
        client: what the calls are given.
        open_seconds: time between two attempts while Valkey is away.
        turn_seconds: longest wait behind the calls of others, for a server that is merely slow.
    """

    def __init__(
        self, client: Valkey, *, open_seconds: float = OPEN_SECONDS, turn_seconds: float = TURN_SECONDS
    ) -> None:
        self._client = client
        self._open_seconds = open_seconds
        self._turn_seconds = turn_seconds
        self._turns = asyncio.Semaphore(_CALLS_AT_ONCE)
        self._closed = True
        self._probing = False
        self._retry_at = 0.0
        self._abandoned: set[asyncio.Future[Any]] = set()
        self._pipe: Pipe | None = None
        self._opening = asyncio.Lock()

    async def call(self, work: Callable[[Valkey], Awaitable[_T]], *, seconds: float) -> _T:
        """Return what `work` makes of the client. Raises `ValkeyUnavailable`.

        Args:
            work: one command, or one pipeline; cancelled when it takes too long.
            seconds: longest time for it, from its turn on; longer while the event loop is held up,
                for that an answer was not looked at is no fault of Valkey.
        """
        if self._closed:
            async with self._turn():
                # Whoever had the turn before may have found that nobody answers.
                if self._closed:
                    return await self._attempt(work, seconds)
            raise ValkeyUnavailable("nobody answered just now")
        if self._probing or time.monotonic() < self._retry_at:
            raise ValkeyUnavailable("nobody answered just now")
        self._probing = True
        try:
            return await self._attempt(work, seconds)
        finally:
            self._probing = False

    async def ask_on_run(self, command: RunCommand, *, seconds: float) -> Any:  # noqa: ANN401 - as various as commands
        """Return the answer to one command, as `execute_on_run` does; for those of which there are many.

        They share one connection, and need neither a turn nor a task. Raises `ValkeyUnavailable`.
        """
        pipe = self._pipe
        if pipe is None or not pipe.is_open or not self._closed:
            return await self.call(lambda client: self._ask_anew(client, command, seconds), seconds=seconds)
        try:
            return await pipe.ask(command(pipe.run), seconds)
        except (ValkeyError, OSError) as error:
            self._fail(error)
            raise ValkeyUnavailable(str(error)) from error

    async def _ask_anew(self, client: Valkey, command: RunCommand, seconds: float) -> Any:  # noqa: ANN401 - see above
        async with self._opening:
            old, self._pipe = self._pipe, None
            if old is None or not old.is_open:
                if old:
                    await old.give_back()
                old = await _open_pipe(client)
            pipe = self._pipe = old
        return await pipe.ask(command(pipe.run), seconds)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Be one of the few calls at a time; where that takes too long, nothing is said of the server."""
        try:
            async with asyncio.timeout(self._turn_seconds):
                await self._turns.acquire()
        except TimeoutError:
            raise ValkeyUnavailable("too many calls are waiting") from None
        try:
            yield
        finally:
            self._turns.release()

    async def _attempt(self, work: Callable[[Valkey], Awaitable[_T]], seconds: float) -> _T:
        task = asyncio.ensure_future(work(self._client))
        try:
            if not await finishes(task, seconds):
                raise TimeoutError(f"no answer within {seconds} s")
            result = task.result()
        except (ValkeyError, OSError) as error:
            self._fail(error)
            raise ValkeyUnavailable(str(error)) from error
        finally:
            self._abandon(task)
        if not self._closed:
            _log.info("valkey is back")
        self._closed = True
        return result

    def _fail(self, error: Exception) -> None:
        if self._closed:
            _log.warning("valkey unavailable", cause=type(error).__name__)
        self._closed = False
        self._retry_at = time.monotonic() + self._open_seconds

    def _abandon(self, task: asyncio.Future[_T]) -> None:
        """Stop what is still under way; the client closes its connection, which nobody else uses."""
        if task.done():
            return
        task.cancel()
        self._abandoned.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Future[_T]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            # Looked at, so that nobody is told of an error that nobody waits for.
            task.exception()
