"""The audit log, written in the transaction of what it tells of."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from chitram.accounts.adapters.postgres.rows import AuditRow
from chitram.accounts.domain.principal import Principal
from chitram.accounts.queries import AuditView
from chitram.kernel.clock import Clock
from chitram.kernel.ids import new_id
from chitram.kernel.uow import UnitOfWork
from chitram.platform.database import Reader, session_of

_ENTRIES = "SELECT at, actor_id, action, subject, details FROM audit_log"
_NEWEST = f"{_ENTRIES} ORDER BY id DESC LIMIT $1"
_NEWEST_OF = f"{_ENTRIES} WHERE subject = $2 ORDER BY id DESC LIMIT $1"


class PostgresAuditLog:
    """Adds rows; nothing changes or removes one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def record(
        self,
        transaction: UnitOfWork,
        *,
        actor: Principal,
        action: str,
        subject: str,
        details: Mapping[str, str | int | bool | None] | None = None,
    ) -> None:
        now = self._clock.now()
        row = AuditRow(id=new_id(now), at=now, action=action, subject=subject, details=dict(details or {}))
        row.actor_id = actor.user_id
        session_of(transaction).add(row)


class PostgresAuditQueries:
    """Reads them."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def newest(self, limit: int, subject: str | None = None) -> list[AuditView]:
        async with self._reader.connection() as connection:
            if subject is None:
                rows = await connection.fetch(_NEWEST, limit)
            else:
                rows = await connection.fetch(_NEWEST_OF, limit, subject)
        # Ids of one millisecond are in no order.
        rows.sort(key=lambda row: row["at"], reverse=True)
        return [
            msgspec.convert({**row, "details": msgspec.json.decode(row["details"])}, AuditView)
            for row in rows
        ]
