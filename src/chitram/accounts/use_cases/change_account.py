"""Change an account: what an administrator may do to one from the command line."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from msgspec import UNSET, UnsetType

from chitram.accounts.domain.errors import AccountNotFound
from chitram.accounts.domain.principal import ANONYMOUS
from chitram.accounts.domain.user import Email, User
from chitram.accounts.domain.work import FORGET_CREDENTIALS, USER_ID
from chitram.accounts.ports import AccountsUnitOfWork, AccountTransactions, AuditLog, SessionCache
from chitram.kernel.clock import Clock


class ChangeAccountCommand(msgspec.Struct, frozen=True, kw_only=True):
    """Whose account, and what becomes of it; what is left out stays as it is.

    A quota of None is as the settings say, of 0 without a limit.
    """

    email: Email
    is_active: bool | UnsetType = UNSET
    is_admin: bool | UnsetType = UNSET
    quota_bytes: int | UnsetType | None = UNSET
    quota_images: int | UnsetType | None = UNSET


class ChangeAccount:
    """Whoever has the command line may. Raises `AccountNotFound`.

    Deactivating ends every session of the account. The audit log has it, without an actor.
    """

    def __init__(
        self, transactions: AccountTransactions, cache: SessionCache, audit: AuditLog, clock: Clock
    ) -> None:
        self._transactions = transactions
        self._cache = cache
        self._audit = audit
        self._clock = clock

    async def __call__(self, command: ChangeAccountCommand) -> User:
        """Change what is given; returns the account as it is then."""
        changes = {
            name: value
            for name in ("is_active", "is_admin", "quota_bytes", "quota_images")
            if (value := getattr(command, name)) is not UNSET
        }
        now = self._clock.now()
        async with self._transactions.begin() as transaction:
            user = replace(await lock_account(transaction, command.email), **changes, updated_at=now)
            await transaction.users.change(user)
            if not user.is_active:
                await transaction.sessions.revoke_but_newest(user.id, 0, now)
            await self._audit.record(
                transaction,
                actor=ANONYMOUS,
                action="user.change",
                subject=f"user:{user.id}",
                details=changes,
            )
            await transaction.outbox.add(FORGET_CREDENTIALS, {USER_ID: str(user.id)})
            await transaction.commit()
        await self._cache.forget_account(user.id)
        return user


async def lock_account(transaction: AccountsUnitOfWork, email: Email) -> User:
    """The account of an address, kept from changing. Raises `AccountNotFound`."""
    found = await transaction.users.find(email)
    user = await transaction.users.lock(found[0].id) if found else None
    if user is None:
        raise AccountNotFound
    return user
