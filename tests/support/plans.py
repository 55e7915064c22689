"""Plans of the very statements that adapters send, as PostgreSQL tells them when it has done each."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import msgspec
from sqlalchemy import event

from chitram.images.adapters.postgres.statements import STATEMENTS
from chitram.platform.attempts import TAKE
from chitram.platform.database import Reader
from chitram.platform.settings import Settings
from chitram.platform.statements import Session, Statements
from tests.support.database import Database

_MARK = "plan:\n"
# The server explains to the client what it has executed, with the rows that each step gave.
_SETTINGS = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_level": "notice",
    "auto_explain.log_format": "json",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
}
_SCANS = {"Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan", "Sample Scan", "Tid Scan"}


@dataclass(frozen=True)
class Scan:
    """One reading of a table: `rows` are those it looked at, whether or not they were wanted."""

    relation: str
    kind: str
    rows: float


@dataclass(frozen=True)
class Plan:
    """How one statement was executed."""

    query: str
    root: dict[str, Any]

    def nodes(self) -> Iterator[dict[str, Any]]:
        left = [self.root]
        while left:
            node = left.pop()
            left += node.get("Plans", [])
            yield node

    def scans(self) -> list[Scan]:
        return [
            Scan(node["Relation Name"], node["Node Type"], _looked_at(node))
            for node in self.nodes()
            if node["Node Type"] in _SCANS
        ]

    def indexes(self) -> set[str]:
        """Those that are read, and those that tell an insertion of what is there already."""
        return self.arbiters() | {node["Index Name"] for node in self.nodes() if "Index Name" in node}

    def arbiters(self) -> set[str]:
        return {name for node in self.nodes() for name in node.get("Conflict Arbiter Indexes", [])}


def _looked_at(node: dict[str, Any]) -> float:
    dropped = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    rows: float = node["Actual Rows"] + sum(node.get(name, 0) for name in dropped)
    loops: int = node["Actual Loops"]
    return rows * loops


@dataclass
class Plans:
    """The plans of what was executed so far, in order."""

    seen: list[Plan] = field(default_factory=list)

    def note(self, _: object, message: asyncpg.PostgresLogMessage) -> None:
        text: str = message.message
        if _MARK in text:
            told = msgspec.json.decode(text.partition(_MARK)[2])
            self.seen.append(Plan(told["Query Text"], told["Plan"]))


class _ExplainedReader(Reader):
    def __init__(self, pool: asyncpg.Pool, plans: Plans) -> None:
        super().__init__(pool)
        self._plans = plans

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
        async with super().connection() as connection:
            connection.add_log_listener(self._plans.note)
            try:
                yield connection
            finally:
                connection.remove_log_listener(self._plans.note)


class _ExplainedStatements(Statements):
    def __init__(self, url: str, plans: Plans) -> None:
        super().__init__(Settings(database_url=url), [*STATEMENTS, TAKE], size=1)
        self._plans = plans

    async def _session(self) -> Session:
        session = await super()._session()
        session.connection.add_log_listener(self._plans.note)
        return session


@dataclass
class Explained(Database):
    """Adapters over a database, and the plans of what they have asked it."""

    plans: Plans = field(default_factory=Plans)

    @property
    def reader(self) -> Reader:
        return _ExplainedReader(self.pool, self.plans)


async def explain_to_clients(superuser_url: str, database_url: str, *, generic: bool) -> None:
    """Have a database tell the plans of all that new connections ask of it.

    Args:
        superuser_url: of any database of the server.
        database_url: of the database.
        generic: plan once for all values, as PostgreSQL does with what was prepared, or for those
            that are given.
    """
    name = database_url.rpartition("/")[2]
    settings = _SETTINGS | {"plan_cache_mode": f"force_{'generic' if generic else 'custom'}_plan"}
    connection = await asyncpg.connect(superuser_url)
    try:
        # Before that its settings are not known.
        await connection.execute("LOAD 'auto_explain'")
        for setting, value in settings.items():
            await connection.execute(f"ALTER DATABASE \"{name}\" SET {setting} = '{value}'")
    finally:
        await connection.close()


async def open_explained(url: str) -> Explained:
    """Open a database that `explain_to_clients` was called for."""
    explained = await Explained.open(url)
    explained.statements = _ExplainedStatements(url, explained.plans)

    @event.listens_for(explained.engine.sync_engine, "connect")
    def listen(connection: Any, _: object) -> None:
        connection.driver_connection.add_log_listener(explained.plans.note)

    return explained
