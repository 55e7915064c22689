"""Single statements on the primary, on connections that know them beforehand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import asyncpg
import structlog
from asyncpg.prepared_stmt import PreparedStatement

from chitram.kernel.errors import CommitUncertain, DatabaseUnavailable
from chitram.platform.database import ANSWER_SECONDS, CONNECT_SECONDS, UNREACHABLE, unreachable_as_unavailable
from chitram.platform.settings import Settings

T = TypeVar("T")
_Ask = Callable[[PreparedStatement], Awaitable[T]]
_log = structlog.get_logger("chitram.database")


class Statement(NamedTuple):
    """A statement, and the name by which a connection remembers it."""

    name: str
    text: str


class Session(NamedTuple):
    """A connection, and by their names the statements that it knows."""

    connection: asyncpg.Connection
    prepared: Mapping[str, PreparedStatement]


class Statements:
    """Runs statements that are transactions of their own: one round trip each.

    asyncpg's pool would take a task and three turns of the event loop to get a connection back,
    and a round trip more to reset it, of which nothing here has any need.

    Args:
        settings: name the server.
        statements: all that will be run.
        size: most connections; each is made when it is first needed.
    """

    def __init__(self, settings: Settings, statements: Iterable[Statement], *, size: int) -> None:
        self._settings = settings
        self._statements = tuple(statements)
        self._turns = asyncio.Semaphore(size)
        self._idle: list[Session] = []

    async def read(self, statement: Statement, *arguments: object) -> asyncpg.Record | None:
        """The first row of a statement that changes nothing; raises `DatabaseUnavailable`."""
        with unreachable_as_unavailable():
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._run(statement, lambda each: each.fetchrow(*arguments), _Progress())

    async def commit(self, statement: Statement, *arguments: object) -> asyncpg.Record | None:
        """The first row of a statement that changes something, which is committed once it returns.

        Raises `DatabaseUnavailable` when nothing has changed, and `CommitUncertain` when that is
        not known.
        """
        return await self._commit(statement, lambda each: each.fetchrow(*arguments))

    async def commit_in_turn(
        self, statement: Statement, *arguments: Sequence[object]
    ) -> Sequence[asyncpg.Record]:
        """Run a statement with each of these arguments, one after the other, in one transaction.

        All rows of all of them, in one round trip. Each sees what others have committed before it
        begins (READ COMMITTED). Errors are those of `commit`.
        """
        return await self._commit(statement, lambda each: each.fetchmany(arguments))

    async def _commit(self, statement: Statement, ask: _Ask[T]) -> T:
        progress = _Progress()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._run(statement, ask, progress)
        except UNREACHABLE as error:
            is_uncertain = progress.sent and not _is_refusal(error)
            _log.warning("database unreachable", cause=type(error).__name__, committing=is_uncertain)
            if is_uncertain:
                raise CommitUncertain(timed_out=isinstance(error, TimeoutError)) from error
            raise DatabaseUnavailable from error

    async def aclose(self) -> None:
        """Let go of every connection that is not in use."""
        self._let_go()
        # In which they are closed.
        await asyncio.sleep(0)

    def _let_go(self) -> None:
        while self._idle:
            self._idle.pop().connection.terminate()

    async def _run(self, statement: Statement, ask: _Ask[T], progress: _Progress) -> T:
        async with self._turns:
            try:
                return await self._ask(statement, ask, progress)
            except asyncpg.InvalidCachedStatementError:
                # A migration has changed the type of a column, and nothing was done. All that is
                # idle knows the table as it was.
                progress.sent = False
                self._let_go()
                return await self._ask(statement, ask, progress)

    async def _ask(self, statement: Statement, ask: _Ask[T], progress: _Progress) -> T:
        session = await self._session()
        try:
            progress.sent = True
            answer = await ask(session.prepared[statement.name])
        except BaseException:
            # Whatever it is in the middle of, nobody gets this connection again.
            session.connection.terminate()
            raise
        self._idle.append(session)
        return answer

    async def _session(self) -> Session:
        while self._idle:
            session = self._idle.pop()
            if not session.connection.is_closed():
                return session
        connection = await asyncpg.connect(
            self._settings.database_url,
            timeout=CONNECT_SECONDS,
            server_settings={
                "application_name": "chitram",
                # Nobody waits longer, and a connection that was given up is not asked to stop.
                "statement_timeout": str(round(ANSWER_SECONDS * 1000)),
            },
        )
        try:
            prepared = {
                each.name: await connection.prepare(each.text, name=each.name) for each in self._statements
            }
        except BaseException:
            connection.terminate()
            raise
        return Session(connection, prepared)


class _Progress:
    """How far a statement has come: whether the server may have it."""

    __slots__ = ("sent",)

    def __init__(self) -> None:
        self.sent = False


def _is_refusal(error: BaseException) -> bool:
    """Whether the server itself says that it has done nothing."""
    return isinstance(error, asyncpg.PostgresError) and not isinstance(
        error, (asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)
    )
