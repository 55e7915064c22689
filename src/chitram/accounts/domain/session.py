"""Sessions and the refresh tokens that prolong them."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

_TOKEN_BYTES = 32
# Tells what was found in a wrong place, to people and to scanners of secrets.
REFRESH_TOKEN_PREFIX = "chr_"  # noqa: S105 - not a token by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One sign-in and all that it was renewed by.

    Attributes:
        id: named by access tokens.
        user_id: whose it is.
        created_at: when somebody signed in.
        last_used_at: when it was renewed last.
        expires_at: when it ends unless it is renewed before.
        revoked_at: when it was ended; for good.
        origin: a keyed hash of where it was opened from, None where that counts for nothing.
    """

    id: UUID
    user_id: UUID
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    origin: str | None = None


def new_refresh_token() -> str:
    """Make a refresh token: 256 random bits after a prefix."""
    return REFRESH_TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def hash_refresh_token(token: str) -> bytes:
    """What is kept of a refresh token: SHA-256, as nobody can guess 256 random bits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
