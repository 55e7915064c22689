"""PostgreSQL: one engine for transactions on the ORM, one asyncpg pool for hot reads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self

import asyncpg
import structlog
from sqlalchemy import AdaptedConnection, event
from sqlalchemy.exc import DBAPIError, DisconnectionError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from chitram.kernel.errors import CommitUncertain, DatabaseUnavailable
from chitram.kernel.uow import UnitOfWork
from chitram.platform.outbox import Relay, SqlOutbox
from chitram.platform.settings import Settings

# A client is told within 5 seconds that the database is away: so long may a transaction or a read
# take in all. Giving up a connection that hangs takes SQLAlchemy 2 seconds more.
ANSWER_SECONDS = 2.5
CLOSE_SECONDS = 1.0
CONNECT_SECONDS = 2.0

_log = structlog.get_logger("chitram.database")

# What drivers and pools raise when the server is away, hangs, restarts or refuses us.
UNREACHABLE = (
    OSError,
    TimeoutError,
    PoolTimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InternalClientError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresSystemError,
    asyncpg.DeadlockDetectedError,
)


def sqlalchemy_url(database_url: str) -> str:
    """Name the asyncpg driver in a plain `postgresql://` URL."""
    _, separator, rest = database_url.partition("://")
    return f"postgresql+asyncpg{separator}{rest}"


def make_engine(settings: Settings) -> AsyncEngine:
    """Make the engine that transactions run on; connects when first used."""
    engine = create_async_engine(
        sqlalchemy_url(settings.database_url),
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=ANSWER_SECONDS,
        # File names and addresses are parameters, and have no place in a log.
        hide_parameters=True,
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": ANSWER_SECONDS,
            "server_settings": {
                "application_name": "chitram",
                "idle_in_transaction_session_timeout": "10s",
            },
        },
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


def _refuse_closed(connection: AdaptedConnection, *_: object) -> None:
    """Have the pool make a new connection in the place of one that a server which went away has closed.

    That was told by the network already; a ping would take three round trips to find it out.
    """
    if connection.driver_connection.is_closed():
        raise DisconnectionError


async def make_reader(settings: Settings) -> asyncpg.Pool:
    """Make a pool that single-statement reads run on; connects when first used."""
    return await asyncpg.create_pool(
        settings.database_url,
        min_size=0,
        max_size=settings.database_pool_size,
        timeout=CONNECT_SECONDS,
        command_timeout=ANSWER_SECONDS,
        server_settings={"application_name": "chitram-reader"},
    )


@contextlib.contextmanager
def unreachable_as_unavailable() -> Iterator[None]:
    """Turn what a driver raises when the server is away into `DatabaseUnavailable`."""
    try:
        yield
    except (DBAPIError, *UNREACHABLE) as error:
        if not is_unreachable(error):
            raise
        _log.warning("database unreachable", cause=type(error).__name__)
        raise DatabaseUnavailable from error


def is_unreachable(error: BaseException) -> bool:
    """Say whether an error means that the server is away, rather than that a statement is wrong."""
    if isinstance(error, IntegrityError):
        return False
    if isinstance(error, DBAPIError):
        # The driver's own error is the cause of the wrapper that the dialect puts around it.
        cause = error.orig.__cause__ if error.orig is not None else None
        return error.connection_invalidated or isinstance(cause, UNREACHABLE)
    return isinstance(error, UNREACHABLE)


def violated_constraint(error: IntegrityError) -> str | None:
    """Name the constraint that a statement would have violated."""
    name: str | None = getattr(error.orig.__cause__, "constraint_name", None) if error.orig else None
    return name


class Reader:
    """Single statements, each on a connection that is held no longer than the statement."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
        """Borrow a connection; raises `DatabaseUnavailable` when there is none to be had."""
        with unreachable_as_unavailable():
            async with asyncio.timeout(ANSWER_SECONDS):
                connection = await self._pool.acquire()
                try:
                    yield connection
                finally:
                    await self._pool.release(connection, timeout=CLOSE_SECONDS)

    async def check(self) -> None:
        """Return when the server answers; raises `DatabaseUnavailable`."""
        async with self.connection() as connection:
            # An empty database answers too, but nothing that is asked of it.
            await connection.execute("SELECT version_num FROM alembic_version")


class SqlUnitOfWork:
    """A transaction on one session; the repositories of a module hang off a subclass.

    Errors of the driver leave the block as `DatabaseUnavailable`, those of the COMMIT itself as
    `CommitUncertain`. After a commit the relay is told what the outbox now owes.
    """

    session: AsyncSession
    outbox: SqlOutbox

    def __init__(self, sessions: async_sessionmaker[AsyncSession], relay: Relay) -> None:
        self._sessions = sessions
        self._relay = relay

    async def __aenter__(self) -> Self:
        self.session = self._sessions()
        self.outbox = SqlOutbox(self.session)
        self._commit_sent = False
        self._deadline = asyncio.timeout(ANSWER_SECONDS)
        await self._deadline.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._deadline.__aexit__(kind, error, traceback)
        except TimeoutError as timeout:
            error = timeout
        # Closing rolls back what was not committed. A server that hangs may not hold us for long.
        with contextlib.suppress(DBAPIError, *UNREACHABLE):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.session.close()
        if error is not None and is_unreachable(error):
            _log.warning("database unreachable", cause=type(error).__name__, committing=self._commit_sent)
            if self._commit_sent:
                raise CommitUncertain(timed_out=isinstance(error, TimeoutError)) from error
            raise DatabaseUnavailable from error

    async def commit(self) -> None:
        await self.session.flush()
        self._commit_sent = True
        await self.session.commit()
        self._relay.notify(self.outbox.added)


def session_of(transaction: UnitOfWork) -> AsyncSession:
    """The session under a transaction that another module began, to change tables of one's own in it."""
    if not isinstance(transaction, SqlUnitOfWork):
        raise TypeError(f"{type(transaction).__name__} is no transaction of this database")
    return transaction.session
