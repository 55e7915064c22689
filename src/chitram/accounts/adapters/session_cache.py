"""Sessions and API keys in Valkey, over the truth in PostgreSQL; why it is safe: docs/adr/0033.

No process remembers them itself, so that what is ended is ended in all of them at once.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from uuid import UUID

from chitram.accounts.queries import ApiKeyQueries, ApiKeyView, CredentialQueries, SessionQueries, SessionView
from chitram.kernel.clock import Clock
from chitram.kernel.errors import DatabaseUnavailable
from chitram.kernel.versions import UNKNOWN
from chitram.platform.shared_cache.codec import Codec
from chitram.platform.shared_cache.entries import SharedEntries
from chitram.platform.shared_cache.epoch import KnownEpoch, WatchedEpoch
from chitram.platform.shared_cache.invalidation import SharedInvalidation
from chitram.platform.shared_cache.reading import SharedReads
from chitram.platform.shared_cache.tally import Tally
from chitram.platform.valkey import ValkeyGuard

# How often a session in use is read from the database; and how long a change by hand, which no cache
# is told of, may go unnoticed.
LIFE_SECONDS = 60
# Of an account with more than that all caches are made cold instead.
_MOST_AT_ONCE = 100

SharedSessions = SharedEntries[SessionView]
SharedApiKeys = SharedEntries[ApiKeyView]


def shared_sessions(guard: ValkeyGuard, seconds: int = LIFE_SECONDS) -> SharedSessions:
    """The sessions of a deployment in Valkey."""
    return SharedEntries(guard, "chitram:session", Codec(SessionView), seconds=seconds)


def shared_api_keys(guard: ValkeyGuard, seconds: int = LIFE_SECONDS) -> SharedApiKeys:
    """The API keys of a deployment in Valkey, by the hash of each."""
    return SharedEntries(guard, "chitram:api-key", Codec(ApiKeyView), seconds=seconds)


class CachedSessions:
    """`SessionQueries` through Valkey."""

    def __init__(
        self, queries: SessionQueries, shared: SharedSessions, epoch: WatchedEpoch, clock: Clock
    ) -> None:
        self._queries = queries
        self._shared = SharedReads(shared, Tally())
        self._epoch = epoch
        self._clock = clock

    async def find(self, session_id: UUID) -> SessionView | None:
        reading = self._epoch.reading(time.monotonic())
        epoch = reading[0] if reading else None
        session, known = await self._shared.find(session_id, epoch, lambda: self._queries.find(session_id))
        if known and session and session.expires_at <= self._clock.now():
            # It may have been renewed since, of which no cache is told.
            return await self._queries.find(session_id)
        return session


class CachedApiKeys:
    """`ApiKeyQueries` through Valkey."""

    def __init__(self, queries: ApiKeyQueries, shared: SharedApiKeys, epoch: WatchedEpoch) -> None:
        self._queries = queries
        self._shared = SharedReads(shared, Tally())
        self._epoch = epoch

    async def find(self, key_hash: bytes) -> ApiKeyView | None:
        reading = self._epoch.reading(time.monotonic())
        epoch = reading[0] if reading else None
        key, _ = await self._shared.find(key_hash.hex(), epoch, lambda: self._queries.find(key_hash))
        return key


class ForgettingCredentials:
    """`SessionCache` over Valkey and the cache epoch.

    What is remembered is removed, together with the leases of fills under way, rather than replaced:
    the database says the rest, the primary, so no reader can bring back what was there before.
    """

    def __init__(
        self,
        queries: CredentialQueries,
        sessions: SharedSessions,
        keys: SharedApiKeys,
        epoch: KnownEpoch,
    ) -> None:
        self._queries = queries
        self._sessions = SharedInvalidation(sessions, epoch, Tally())
        self._keys = SharedInvalidation(keys, epoch, Tally())
        self._epoch = epoch

    async def forget(self, session_id: UUID) -> bool:
        return await self._everywhere(self._sessions.invalidate(session_id, UNKNOWN))

    async def forget_key(self, key_hash: bytes) -> bool:
        return await self._everywhere(self._keys.invalidate(key_hash.hex(), UNKNOWN))

    async def forget_account(self, user_id: UUID) -> bool:
        return await self._everywhere(self._forget_all_of(user_id))

    async def _forget_all_of(self, user_id: UUID) -> bool:
        try:
            sessions, keys = await self._queries.of_account(user_id, _MOST_AT_ONCE + 1)
        except DatabaseUnavailable:
            return await self._sessions.invalidate_all()
        if len(sessions) + len(keys) > _MOST_AT_ONCE:
            return await self._sessions.invalidate_all()
        forgotten = [await self._sessions.invalidate(session_id, UNKNOWN) for session_id in sessions]
        forgotten += [await self._keys.invalidate(key_hash.hex(), UNKNOWN) for key_hash in keys]
        return all(forgotten)

    async def _everywhere(self, forgetting: Awaitable[bool]) -> bool:
        """Wait until no process may find under an older epoch what was forgotten under the latest.

        That is at once, unless the epoch was raised within the last second, now or by somebody else.
        """
        if not await forgetting:
            return False
        await self._epoch.known_everywhere()
        return True


class LeftToOutbox:
    """For an administrator's command that knows the database alone: the worker forgets, within seconds."""

    async def forget(self, session_id: UUID) -> bool:  # noqa: ARG002 - part of the protocol
        return False

    async def forget_key(self, key_hash: bytes) -> bool:  # noqa: ARG002 - part of the protocol
        return False

    async def forget_account(self, user_id: UUID) -> bool:  # noqa: ARG002 - part of the protocol
        return False
