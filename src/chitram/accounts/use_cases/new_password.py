"""Taking a new password: every way to set one goes through here."""

from __future__ import annotations

from chitram.accounts.domain.passwords import check_new_password, prepared
from chitram.accounts.domain.user import Email
from chitram.accounts.ports import CommonPasswords, PasswordHasher


class NewPasswords:
    """Checks passwords that somebody chose, and hashes them."""

    def __init__(self, hasher: PasswordHasher, common: CommonPasswords) -> None:
        self._hasher = hasher
        self._common = common

    async def hash(self, typed: str, email: Email) -> str:
        """What to keep of the password of `email`. Raises `WeakPassword` and `SignInCapacityExceeded`."""
        password = prepared(typed)
        check_new_password(password, email, self._common)
        return await self._hasher.hash(password)
