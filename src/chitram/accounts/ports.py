"""What accounts need from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol, Self
from uuid import UUID

import msgspec

from chitram.accounts.domain.api_key import ApiKey
from chitram.accounts.domain.principal import Principal
from chitram.accounts.domain.session import Session
from chitram.accounts.domain.user import Email, User
from chitram.kernel.uow import UnitOfWork


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a good access token says. Times are those of its making and its end."""

    user_id: UUID
    session_id: UUID
    token_id: UUID
    issued_at: datetime
    expires_at: datetime


class AccessTokens(Protocol):
    """Short-lived proofs that a session was open."""

    def issue(self, user_id: UUID, session_id: UUID) -> tuple[str, int]:
        """Make a token; returns it and its life in seconds."""
        ...

    def read(self, token: str) -> Claims:
        """Check a token of any length and content.

        Raises `TokenExpired` for one that was good once and `InvalidToken` for any other.
        """
        ...


class SessionCache(Protocol):
    """What is remembered of sessions outside the database."""

    async def forget(self, session_id: UUID) -> bool:
        """See to it that a change of this session holds from now on, in every process.

        Called after the commit. Never raises: false when neither Valkey nor the database could be
        told in time. The outbox row of the same transaction makes up for that, and for a process
        that ends before it comes to this: `FORGET_CREDENTIALS` of `domain.work`.
        """
        ...

    async def forget_key(self, key_hash: bytes) -> bool:
        """Do the same for an API key."""
        ...

    async def forget_account(self, user_id: UUID) -> bool:
        """Do the same for all sessions and API keys of an account that has changed itself."""
        ...


class KeyUses(Protocol):
    """When API keys were last used."""

    def note(self, key_id: UUID, now: datetime) -> None:
        """Have it written some time that a key was used now; costs the request nothing."""
        ...


class Quotas(Protocol):
    """What the images of each account take up, exactly, inside the caller's transaction."""

    async def charge(self, transaction: UnitOfWork, user_id: UUID, byte_size: int) -> None:
        """Count one more image of `byte_size` bytes.

        Locks the account's row until the transaction ends; blobs are locked before it, never
        after. Raises `QuotaExceeded` with what is used and allowed, and `InvalidToken` when there
        is no such account.
        """
        ...

    async def release(self, transaction: UnitOfWork, user_id: UUID, byte_size: int) -> None:
        """Count one image of `byte_size` bytes less; never below nothing, which would be logged."""
        ...


class AuditLog(Protocol):
    """What administrators did, written in the transaction that does it."""

    async def record(
        self,
        transaction: UnitOfWork,
        *,
        actor: Principal,
        action: str,
        subject: str,
        details: Mapping[str, str | int | bool | None] | None = None,
    ) -> None:
        """Write one line: who did what to whom or what, such as `image.delete` to `image:<id>`.

        The anonymous actor is whoever has the command line.
        """
        ...


class Users(Protocol):
    """Accounts inside one transaction."""

    async def add(self, user: User) -> None:
        """Raises `EmailTaken`."""
        ...

    async def find(self, email: Email, origin: str | None = None) -> tuple[User, bool] | None:
        """The account of an address, and whether somebody signed in to it from `origin` before."""
        ...

    async def get(self, user_id: UUID) -> User | None: ...

    async def lock(self, user_id: UUID) -> User | None:
        """Read an account as it is now and keep it from changing until the transaction ends."""
        ...

    async def change(self, user: User) -> None:
        """Write what may change of an account that was locked: never what is used."""
        ...


class Sessions(Protocol):
    """Sessions and their refresh tokens inside one transaction. Tokens are given by their hashes."""

    async def add(self, session: Session) -> None: ...

    async def get(self, session_id: UUID) -> Session | None: ...

    async def add_token(self, session_id: UUID, token_hash: bytes, now: datetime) -> None: ...

    async def lock_by_token(self, token_hash: bytes) -> tuple[Session, datetime | None] | None:
        """The session of a token and when the token was used, both locked; None when there is none."""
        ...

    async def use_token(self, token_hash: bytes, now: datetime) -> None: ...

    async def prolong(self, session_id: UUID, now: datetime, expires_at: datetime) -> None: ...

    async def revoke(self, session_id: UUID, now: datetime) -> bool:
        """End a session for good; whether it was not ended before."""
        ...

    async def revoke_but_newest(self, user_id: UUID, kept: int, now: datetime) -> Sequence[UUID]:
        """End all open sessions of an account but so many of the newest; returns the ended ones."""
        ...

    async def clear(self, *, over: datetime, used: datetime, limit: int) -> int:
        """Remove what is over; returns how many sessions and tokens.

        Args:
            over: sessions that expired or were revoked before, each once all its tokens are gone.
            used: tokens that were used before.
            limit: bounds one transaction: so many sessions, used tokens, and tokens of sessions.
        """
        ...


class ApiKeys(Protocol):
    """API keys inside one transaction."""

    async def add(self, key: ApiKey) -> None: ...

    async def count(self, user_id: UUID) -> int:
        """How many an account has, expired ones too."""
        ...

    async def remove(self, user_id: UUID, key_id: UUID) -> bytes | None:
        """Remove a key of an account; its hash, or None when there was none."""
        ...


class AccountsUnitOfWork(UnitOfWork, Protocol):
    """One transaction over the tables of accounts."""

    @property
    def users(self) -> Users: ...

    @property
    def sessions(self) -> Sessions: ...

    @property
    def api_keys(self) -> ApiKeys: ...

    async def __aenter__(self) -> Self: ...


class AccountTransactions(Protocol):
    """Begins transactions."""

    def begin(self) -> AccountsUnitOfWork: ...


class PasswordHasher(Protocol):
    """Hashes that are expensive on purpose. Each call waits for its turn.

    Raises `SignInCapacityExceeded` when too many wait.
    """

    async def hash(self, password: str) -> str: ...

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Say whether a password is that of a hash; of None with the same work, and always no."""
        ...

    def is_outdated(self, password_hash: str) -> bool:
        """Whether a hash was made with other parameters than hashes are made with now."""
        ...


class EmailReader(Protocol):
    """Reads e-mail addresses as people type them, without asking anyone whether they exist."""

    def __call__(self, text: str) -> Email:
        """Raises `InvalidRequest` that names the field."""
        ...


class CommonPasswords(Protocol):
    """Passwords that are tried first, in small letters."""

    def __contains__(self, password: object) -> bool: ...


class SignInLimit(Protocol):
    """How often strangers may try to sign in to one account, wherever they are."""

    async def take(self, email: Email) -> None:
        """Count one attempt. Raises a refusal that says when to come back."""
        ...

    def origin(self, client: str) -> str:
        """A hash that tells clients apart, and says nothing of them to whoever reads the database."""
        ...
