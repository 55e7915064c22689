"""What implements the ports of accounts."""

from __future__ import annotations

from datetime import timedelta

from dishka import Provider, Scope, provide

from chitram.accounts.adapters.access_tokens import JwtAccessTokens
from chitram.accounts.adapters.postgres.audit import PostgresAuditLog
from chitram.accounts.adapters.postgres.queries import PostgresSessionQueries
from chitram.accounts.adapters.postgres.quotas import PostgresQuotas
from chitram.accounts.adapters.session_cache import NoSessionCache
from chitram.accounts.ports import AccessTokens, SessionCache
from chitram.accounts.public import ANONYMOUS, AuditLog, Authenticator, Principal, Quotas
from chitram.accounts.queries import SessionQueries
from chitram.kernel.clock import Clock
from chitram.platform.settings import Settings


class EveryoneIsAnonymous:
    """Believes no credentials."""

    async def principal(self, authorization: str | None, api_key: str | None) -> Principal:  # noqa: ARG002 - part of the protocol
        return ANONYMOUS


class AccountsProvider(Provider):
    """Ports to adapters."""

    scope = Scope.APP
    authenticator = provide(EveryoneIsAnonymous, provides=Authenticator)
    session_cache = provide(NoSessionCache, provides=SessionCache)
    session_queries = provide(PostgresSessionQueries, provides=SessionQueries)
    audit_log = provide(PostgresAuditLog, provides=AuditLog)

    @provide
    def access_tokens(self, settings: Settings, clock: Clock) -> AccessTokens:
        life = timedelta(seconds=settings.access_token_seconds)
        return JwtAccessTokens(settings.secret_keys, life, clock)

    @provide
    def quotas(self, settings: Settings) -> Quotas:
        return PostgresQuotas(settings.quota_bytes, settings.quota_images)
