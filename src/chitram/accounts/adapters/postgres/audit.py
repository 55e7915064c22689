"""The audit log, written in the transaction of what it tells of."""

from __future__ import annotations

from collections.abc import Mapping

from chitram.accounts.adapters.postgres.rows import AuditRow
from chitram.accounts.domain.principal import Principal
from chitram.kernel.clock import Clock
from chitram.kernel.ids import new_id
from chitram.kernel.uow import UnitOfWork
from chitram.platform.database import session_of


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
