"""Make an API key."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from chitram.accounts.domain.api_key import (
    LONGEST_NAME,
    MOST_KEYS,
    ApiKey,
    clean_name,
    hash_of,
    hint_of,
    new_key,
)
from chitram.accounts.domain.errors import Forbidden, InvalidToken, TooManyApiKeys
from chitram.accounts.domain.principal import Principal, Scope
from chitram.accounts.ports import AccountTransactions
from chitram.kernel.clock import Clock
from chitram.kernel.errors import InvalidRequest
from chitram.kernel.ids import new_id


class CreateApiKeyCommand(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants a key for what, and for how many seconds; None for as long as nobody removes it."""

    principal: Principal
    name: str
    scopes: frozenset[Scope]
    expires_in: int | None


class CreateApiKey:
    """Whoever has signed in may, for their own account; API keys may not.

    Raises `NotAuthenticated`, `Forbidden`, also for the scope `admin` of who is no administrator,
    `InvalidRequest` for a name without anything to see or too long, and `TooManyApiKeys`.
    """

    def __init__(self, transactions: AccountTransactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    async def __call__(self, command: CreateApiKeyCommand) -> tuple[ApiKey, str]:
        """Make the key; returns what is kept of it, and the key itself, which is not."""
        user_id = command.principal.require_session()
        name = clean_name(command.name)
        if not 1 <= len(name) <= LONGEST_NAME:
            raise InvalidRequest(f"name has 1 to {LONGEST_NAME} characters.", details={"field": "name"})
        now, text = self._clock.now(), new_key()
        key = ApiKey(
            id=new_id(now),
            user_id=user_id,
            name=name,
            key_hash=hash_of(text),
            hint=hint_of(text),
            scopes=command.scopes,
            created_at=now,
            expires_at=None if command.expires_in is None else now + timedelta(seconds=command.expires_in),
        )
        async with self._transactions.begin() as transaction:
            # The account as it is now, not as it is remembered; and one key after the other.
            user = await transaction.users.lock(user_id)
            if user is None or not user.is_active:
                raise InvalidToken
            if Scope.ADMIN in key.scopes and not user.is_admin:
                raise Forbidden(details={"scope": Scope.ADMIN.value})
            if await transaction.api_keys.count(user_id) >= MOST_KEYS:
                raise TooManyApiKeys(details={"max_keys": MOST_KEYS})
            await transaction.api_keys.add(key)
            await transaction.commit()
        return key, text
