"""What implements the ports of accounts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import timedelta

from dishka import Provider, Scope, provide
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from chitram.accounts.adapters.access_tokens import JwtAccessTokens
from chitram.accounts.adapters.authenticator import TokenAuthenticator
from chitram.accounts.adapters.emails import read_email
from chitram.accounts.adapters.passwords import Argon2Hasher, RankedPasswords
from chitram.accounts.adapters.postgres.audit import PostgresAuditLog, PostgresAuditQueries
from chitram.accounts.adapters.postgres.credential_queries import (
    PostgresApiKeyLists,
    PostgresApiKeyQueries,
    PostgresCredentialQueries,
)
from chitram.accounts.adapters.postgres.key_uses import PostgresKeyUses
from chitram.accounts.adapters.postgres.queries import PostgresAccountQueries, PostgresSessionQueries
from chitram.accounts.adapters.postgres.quotas import PostgresQuotas
from chitram.accounts.adapters.postgres.unit_of_work import PostgresAccountTransactions
from chitram.accounts.adapters.session_cache import (
    CachedApiKeys,
    CachedSessions,
    ForgettingCredentials,
    SharedApiKeys,
    SharedSessions,
    shared_api_keys,
    shared_sessions,
)
from chitram.accounts.adapters.sign_in_limit import RateLimitedSignIn
from chitram.accounts.entrypoints.jobs import ForgetCredentialsJob
from chitram.accounts.ports import (
    AccessTokens,
    AccountTransactions,
    CommonPasswords,
    EmailReader,
    KeyUses,
    PasswordHasher,
    SessionCache,
    SignInLimit,
)
from chitram.accounts.public import AuditLog, Authenticator, OncePerRequest, Quotas, SharedAuthenticator
from chitram.accounts.queries import (
    AccountQueries,
    ApiKeyLists,
    ApiKeyQueries,
    AuditQueries,
    CredentialQueries,
    SessionQueries,
)
from chitram.accounts.use_cases.change_account import ChangeAccount
from chitram.accounts.use_cases.clear_sessions import ClearSessions
from chitram.accounts.use_cases.create_admin import CreateAdmin
from chitram.accounts.use_cases.create_api_key import CreateApiKey
from chitram.accounts.use_cases.delete_api_key import DeleteApiKey
from chitram.accounts.use_cases.end_session import EndSession
from chitram.accounts.use_cases.new_password import NewPasswords
from chitram.accounts.use_cases.opening import SessionOpener, SessionRules
from chitram.accounts.use_cases.refresh_session import RefreshSession
from chitram.accounts.use_cases.register_user import RegisterUser, RegistrationRules
from chitram.accounts.use_cases.set_password import SetPassword
from chitram.accounts.use_cases.sign_in import SignIn
from chitram.kernel.clock import Clock
from chitram.kernel.errors import DatabaseUnavailable
from chitram.platform.database import Reader
from chitram.platform.loops import beside, repeat
from chitram.platform.outbox import Relay
from chitram.platform.rate_limits.limits import RateLimits
from chitram.platform.settings import Settings
from chitram.platform.valkey import ValkeyGuard

_KEY_USES_SECONDS = 5.0


class AccountsProvider(Provider):
    """Ports to adapters."""

    scope = Scope.APP
    session_queries = provide(PostgresSessionQueries, provides=SessionQueries)
    audit_log = provide(PostgresAuditLog, provides=AuditLog)
    audit_queries = provide(PostgresAuditQueries, provides=AuditQueries)
    common_passwords = provide(RankedPasswords, provides=CommonPasswords)

    @provide
    def access_tokens(self, settings: Settings, clock: Clock) -> AccessTokens:
        life = timedelta(seconds=settings.access_token_seconds)
        return JwtAccessTokens(settings.secret_keys, life, clock)

    @provide
    def quotas(self, settings: Settings) -> Quotas:
        return PostgresQuotas(settings.quota_bytes, settings.quota_images)

    @provide
    def transactions(self, sessions: async_sessionmaker[AsyncSession], relay: Relay) -> AccountTransactions:
        return PostgresAccountTransactions(sessions, relay)

    @provide
    def account_queries(self, reader: Reader, settings: Settings) -> AccountQueries:
        return PostgresAccountQueries(reader, settings.quota_bytes, settings.quota_images)

    @provide
    def hasher(self) -> Iterator[PasswordHasher]:
        hasher = Argon2Hasher()
        yield hasher
        hasher.close()

    @provide
    def read_email(self) -> EmailReader:
        return read_email

    @provide
    def sign_in_limit(self, limits: RateLimits, settings: Settings) -> SignInLimit:
        return RateLimitedSignIn(limits, settings.secret_keys)

    @provide
    def session_rules(self, settings: Settings) -> SessionRules:
        return SessionRules(timedelta(seconds=settings.refresh_token_seconds))

    @provide
    def registration_rules(self, settings: Settings) -> RegistrationRules:
        return RegistrationRules(is_open=settings.registration == "open")


class CredentialsProvider(Provider):
    """Who makes a request, the cache of sessions and keys that this asks, and API keys."""

    scope = Scope.APP
    authenticator = provide(OncePerRequest, provides=Authenticator, scope=Scope.REQUEST)
    session_cache = provide(ForgettingCredentials, provides=SessionCache)
    cached_sessions = provide(CachedSessions)
    cached_api_keys = provide(CachedApiKeys)
    api_key_queries = provide(PostgresApiKeyQueries, provides=ApiKeyQueries)
    api_key_lists = provide(PostgresApiKeyLists, provides=ApiKeyLists)
    credential_queries = provide(PostgresCredentialQueries, provides=CredentialQueries)
    create_api_key = provide(CreateApiKey)
    delete_api_key = provide(DeleteApiKey)
    forget_credentials_job = provide(ForgetCredentialsJob)

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
    def shared_authenticator(
        self, tokens: AccessTokens, sessions: CachedSessions, keys: CachedApiKeys, uses: KeyUses, clock: Clock
    ) -> SharedAuthenticator:
        return TokenAuthenticator(tokens, sessions, keys, uses, clock)


class AccountsUseCases(Provider):
    """What accounts can do."""

    scope = Scope.APP

    opener = provide(SessionOpener)
    new_passwords = provide(NewPasswords)
    register_user = provide(RegisterUser)
    sign_in = provide(SignIn)
    refresh_session = provide(RefreshSession)
    end_session = provide(EndSession)
    clear_sessions = provide(ClearSessions)
    create_admin = provide(CreateAdmin)
    change_account = provide(ChangeAccount)
    set_password = provide(SetPassword)
