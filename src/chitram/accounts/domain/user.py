"""Accounts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Email:
    """An e-mail address as its owner writes it, and what makes two addresses the same.

    `key` is the whole address casefolded. RFC 5321 lets a mailbox tell cases apart, but none that
    people use does; dots and tags (`a.b+c@`) are left alone, as only some providers ignore them.
    """

    address: str
    key: str

    @classmethod
    def of(cls, normalised: str) -> Email:
        """The value of an address that is normalised but for its case."""
        return cls(normalised, normalised.casefold())


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person or program with an account; deactivated, never removed.

    A quota of None is as the settings say, of 0 without a limit. What is used is counted where the
    images change.
    """

    id: UUID
    email: Email
    password_hash: str
    created_at: datetime
    updated_at: datetime
    is_active: bool = True
    is_admin: bool = False
    quota_bytes: int | None = None
    quota_images: int | None = None
    used_bytes: int = 0
    used_images: int = 0
