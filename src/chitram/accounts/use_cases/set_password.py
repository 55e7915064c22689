"""Give an account another password."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from chitram.accounts.domain.principal import ANONYMOUS
from chitram.accounts.domain.user import Email
from chitram.accounts.domain.work import FORGET_CREDENTIALS, USER_ID
from chitram.accounts.ports import (
    AccountTransactions,
    AuditLog,
    SessionCache,
)
from chitram.accounts.use_cases.change_account import lock_account
from chitram.accounts.use_cases.new_password import NewPasswords
from chitram.kernel.clock import Clock


class SetPasswordCommand(msgspec.Struct, frozen=True):
    """Whose password, and which."""

    email: Email
    password: str


class SetPassword:
    """Whoever has the command line may. Raises `AccountNotFound` and `WeakPassword`.

    It ends every session of the account. The audit log has it, without an actor.
    """

    def __init__(
        self,
        transactions: AccountTransactions,
        passwords: NewPasswords,
        cache: SessionCache,
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        self._transactions = transactions
        self._passwords = passwords
        self._cache = cache
        self._audit = audit
        self._clock = clock

    async def __call__(self, command: SetPasswordCommand) -> None:
        password_hash = await self._passwords.hash(command.password, command.email)
        now = self._clock.now()
        async with self._transactions.begin() as transaction:
            user = await lock_account(transaction, command.email)
            await transaction.users.change(replace(user, password_hash=password_hash, updated_at=now))
            await transaction.sessions.revoke_but_newest(user.id, 0, now)
            await self._audit.record(
                transaction, actor=ANONYMOUS, action="user.set-password", subject=f"user:{user.id}"
            )
            await transaction.outbox.add(FORGET_CREDENTIALS, {USER_ID: str(user.id)})
            await transaction.commit()
        await self._cache.forget_account(user.id)
