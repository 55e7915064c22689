"""Make the account of an administrator."""

from __future__ import annotations

import msgspec

from chitram.accounts.domain.principal import ANONYMOUS
from chitram.accounts.domain.user import Email, User
from chitram.accounts.ports import AccountTransactions, AuditLog
from chitram.accounts.use_cases.new_password import NewPasswords
from chitram.kernel.clock import Clock
from chitram.kernel.ids import new_id


class CreateAdminCommand(msgspec.Struct, frozen=True):
    """Address and password of the new account."""

    email: Email
    password: str


class CreateAdmin:
    """Whoever has the command line may, also while registration is closed.

    Raises `WeakPassword` and `EmailTaken`. The audit log has it, without an actor.
    """

    def __init__(
        self,
        transactions: AccountTransactions,
        passwords: NewPasswords,
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        self._transactions = transactions
        self._passwords = passwords
        self._audit = audit
        self._clock = clock

    async def __call__(self, command: CreateAdminCommand) -> User:
        password_hash = await self._passwords.hash(command.password, command.email)
        now = self._clock.now()
        user = User(
            id=new_id(now),
            email=command.email,
            password_hash=password_hash,
            is_admin=True,
            created_at=now,
            updated_at=now,
        )
        async with self._transactions.begin() as transaction:
            await transaction.users.add(user)
            await self._audit.record(
                transaction, actor=ANONYMOUS, action="user.create-admin", subject=f"user:{user.id}"
            )
            await transaction.commit()
        return user
