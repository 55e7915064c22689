"""Remove an API key."""

from __future__ import annotations

from uuid import UUID

import msgspec

from chitram.accounts.domain.errors import ApiKeyNotFound
from chitram.accounts.domain.principal import Principal
from chitram.accounts.domain.work import FORGET_CREDENTIALS, KEY_HASH
from chitram.accounts.ports import AccountTransactions, SessionCache
from chitram.accounts.use_cases.forgetting import then_forgotten


class DeleteApiKeyCommand(msgspec.Struct, frozen=True):
    """Who removes which key."""

    principal: Principal
    key_id: UUID


class DeleteApiKey:
    """Whoever has signed in may, of their own account; API keys may not.

    Once it returns, the key is good for nothing. Raises `NotAuthenticated`, `Forbidden` and
    `ApiKeyNotFound`, also for the key of somebody else.
    """

    def __init__(self, transactions: AccountTransactions, cache: SessionCache) -> None:
        self._transactions = transactions
        self._cache = cache

    async def __call__(self, command: DeleteApiKeyCommand) -> None:
        user_id = command.principal.require_session()
        key_hash = b""
        async with (
            then_forgotten(lambda: self._cache.forget_key(key_hash)),
            self._transactions.begin() as transaction,
        ):
            removed = await transaction.api_keys.remove(user_id, command.key_id)
            if removed is None:
                raise ApiKeyNotFound
            key_hash = removed
            await transaction.outbox.add(FORGET_CREDENTIALS, {KEY_HASH: key_hash.hex()})
            await transaction.commit()
