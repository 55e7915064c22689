"""Sign in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import msgspec

from chitram.accounts.domain.errors import InvalidCredentials
from chitram.accounts.domain.passwords import prepared
from chitram.accounts.domain.user import Email, User
from chitram.accounts.ports import AccountTransactions, EmailReader, PasswordHasher, SignInLimit
from chitram.accounts.use_cases.opening import Opening, SessionOpener, SignedIn
from chitram.kernel.clock import Clock


class SignInCommand(msgspec.Struct, frozen=True):
    """What somebody typed, and who they are to rate limits: None for whoever has none."""

    email: str
    password: str
    client: str | None = None


class _PasswordChanged(InvalidCredentials):
    """The hash that a password was checked against is not that of the account any more."""


class SignIn:
    """Anyone may who has an active account and knows its password.

    Raises `InvalidRequest` for what is no address, `InvalidCredentials`, what the limit of the
    account raises, and `SignInCapacityExceeded`. Whether there is an account, and whether it is
    active, changes nothing of what is done before a refusal: one read, one attempt counted, one
    password verified.

    The limit of an account counts attempts of strangers together, wherever they are. It does not
    count whoever comes from where somebody signed in to this account before, so that strangers who
    use it up lock nobody out; these are bound by the limit of their own address.
    """

    def __init__(
        self,
        transactions: AccountTransactions,
        hasher: PasswordHasher,
        read_email: EmailReader,
        limit: SignInLimit,
        opener: SessionOpener,
        clock: Clock,
    ) -> None:
        self._transactions = transactions
        self._hasher = hasher
        self._read_email = read_email
        self._limit = limit
        self._opener = opener
        self._clock = clock

    async def __call__(self, command: SignInCommand) -> SignedIn:
        email, password = self._read_email(command.email), prepared(command.password)
        user = await self._find(email, command.client)
        try:
            return await self._attempt(user, password, command.client)
        except _PasswordChanged:
            # Most likely by the same person, whose hash was renewed a moment ago.
            async with self._transactions.begin() as transaction:
                found = await transaction.users.find(email)
            return await self._attempt(found[0] if found else None, password, command.client)

    async def _attempt(self, user: User | None, password: str, client: str | None) -> SignedIn:
        known = user if user and user.is_active else None
        verified = await self._hasher.verify(known.password_hash if known else None, password)
        if known is None or not verified:
            raise InvalidCredentials
        renewed = None
        if self._hasher.is_outdated(known.password_hash):
            renewed = await self._hasher.hash(password)
        opening = self._opener.prepare(known.id, client)
        return await self._opener.signed_in(known, opening, self._open(known, renewed, opening))

    async def _find(self, email: Email, client: str | None) -> User | None:
        """The account of an address; an attempt of a stranger is counted whether or not it exists."""
        origin = self._limit.origin(client) if client else None
        async with self._transactions.begin() as transaction:
            user, is_familiar = await transaction.users.find(email, origin) or (None, False)
        if client and not is_familiar:
            await self._limit.take(email)
        return user

    async def _open(self, verified: User, renewed: str | None, opening: Opening) -> Sequence[UUID]:
        async with self._transactions.begin() as transaction:
            user = await transaction.users.lock(verified.id)
            # Much may have happened while the password was being checked.
            if user is None or not user.is_active:
                raise InvalidCredentials
            if user.password_hash != verified.password_hash:
                raise _PasswordChanged
            if renewed:
                now = self._clock.now()
                await transaction.users.change(replace(user, password_hash=renewed, updated_at=now))
            revoked = await self._opener.open(transaction, opening)
            await transaction.commit()
        return revoked
