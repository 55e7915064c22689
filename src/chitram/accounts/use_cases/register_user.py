"""Register: make an account and sign in to it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from chitram.accounts.domain.errors import RegistrationClosed
from chitram.accounts.domain.user import User
from chitram.accounts.ports import AccountTransactions, EmailReader
from chitram.accounts.use_cases.new_password import NewPasswords
from chitram.accounts.use_cases.opening import Opening, SessionOpener, SignedIn
from chitram.kernel.clock import Clock
from chitram.kernel.ids import new_id


class RegistrationRules(msgspec.Struct, frozen=True):
    """Whether anyone may register."""

    is_open: bool


class RegisterCommand(msgspec.Struct, frozen=True):
    """What somebody typed, and who they are to rate limits: None for whoever has none."""

    email: str
    password: str
    client: str | None = None


class RegisterUser:
    """Anyone may, while registration is open.

    Raises `RegistrationClosed`, `InvalidRequest` for what is no address, `WeakPassword`, `EmailTaken`
    and `SignInCapacityExceeded`. After a `DatabaseUnavailable` the account may exist all the same:
    trying again then says that the address is taken, and signing in works.
    """

    def __init__(
        self,
        transactions: AccountTransactions,
        passwords: NewPasswords,
        read_email: EmailReader,
        opener: SessionOpener,
        clock: Clock,
        rules: RegistrationRules,
    ) -> None:
        self._transactions = transactions
        self._passwords = passwords
        self._read_email = read_email
        self._opener = opener
        self._clock = clock
        self._rules = rules

    async def __call__(self, command: RegisterCommand) -> SignedIn:
        if not self._rules.is_open:
            raise RegistrationClosed
        email = self._read_email(command.email)
        password_hash = await self._passwords.hash(command.password, email)
        now = self._clock.now()
        user = User(id=new_id(now), email=email, password_hash=password_hash, created_at=now, updated_at=now)
        opening = self._opener.prepare(user.id, command.client)
        return await self._opener.signed_in(user, opening, self._add(user, opening))

    async def _add(self, user: User, opening: Opening) -> Sequence[UUID]:
        async with self._transactions.begin() as transaction:
            await transaction.users.add(user)
            revoked = await self._opener.open(transaction, opening)
            await transaction.commit()
        return revoked
