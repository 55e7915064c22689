"""What implements the ports of accounts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta

from dishka import Provider, Scope, provide

from chitram.accounts.adapters.access_tokens import JwtAccessTokens
from chitram.accounts.adapters.authenticator import OncePerRequest, TokenAuthenticator
from chitram.accounts.adapters.postgres.audit import PostgresAuditLog
from chitram.accounts.adapters.postgres.credential_queries import (
    PostgresApiKeyQueries,
    PostgresCredentialQueries,
)
from chitram.accounts.adapters.postgres.key_uses import PostgresKeyUses
from chitram.accounts.adapters.postgres.queries import PostgresSessionQueries
from chitram.accounts.adapters.postgres.quotas import PostgresQuotas
from chitram.accounts.adapters.session_cache import (
    CachedApiKeys,
    CachedSessions,
    ForgettingCredentials,
    SharedApiKeys,
    SharedSessions,
    shared_api_keys,
    shared_sessions,
)
from chitram.accounts.ports import AccessTokens, KeyUses, SessionCache
from chitram.accounts.public import AuditLog, Authenticator, Quotas
from chitram.accounts.queries import ApiKeyQueries, CredentialQueries, SessionQueries
from chitram.kernel.clock import Clock
from chitram.kernel.errors import DatabaseUnavailable
from chitram.platform.database import Reader
from chitram.platform.settings import Settings
from chitram.platform.shared_cache.upkeep import beside, repeat
from chitram.platform.valkey import ValkeyGuard

_KEY_USES_SECONDS = 5.0


class AccountsProvider(Provider):
    """Ports to adapters."""

    scope = Scope.APP
    authenticator = provide(OncePerRequest, provides=Authenticator, scope=Scope.REQUEST)
    session_cache = provide(ForgettingCredentials, provides=SessionCache)
    cached_sessions = provide(CachedSessions)
    cached_api_keys = provide(CachedApiKeys)
    api_key_queries = provide(PostgresApiKeyQueries, provides=ApiKeyQueries)
    credential_queries = provide(PostgresCredentialQueries, provides=CredentialQueries)
    session_queries = provide(PostgresSessionQueries, provides=SessionQueries)
    audit_log = provide(PostgresAuditLog, provides=AuditLog)

    @provide
    def shared_sessions(self, guard: ValkeyGuard) -> SharedSessions:
        return shared_sessions(guard)

    @provide
    def shared_api_keys(self, guard: ValkeyGuard) -> SharedApiKeys:
        return shared_api_keys(guard)

    @provide
    async def key_uses(self, reader: Reader) -> AsyncIterator[KeyUses]:
        uses = PostgresKeyUses(reader)
        async with beside(repeat(_KEY_USES_SECONDS, "last use of API keys", uses.flush)):
            yield uses
        with suppress(DatabaseUnavailable):
            await uses.flush()

    @provide
    def token_authenticator(
        self, tokens: AccessTokens, sessions: CachedSessions, keys: CachedApiKeys, uses: KeyUses, clock: Clock
    ) -> TokenAuthenticator:
        return TokenAuthenticator(tokens, sessions, keys, uses, clock)

    @provide
    def access_tokens(self, settings: Settings, clock: Clock) -> AccessTokens:
        life = timedelta(seconds=settings.access_token_seconds)
        return JwtAccessTokens(settings.secret_keys, life, clock)

    @provide
    def quotas(self, settings: Settings) -> Quotas:
        return PostgresQuotas(settings.quota_bytes, settings.quota_images)
