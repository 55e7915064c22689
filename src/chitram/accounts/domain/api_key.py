"""API keys: what they look like, and what their owners may choose."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from chitram.accounts.domain.principal import Scope
from chitram.kernel.text import is_harmless

PREFIX: Final = "chk_"
_RANDOM_BYTES: Final = 32
_FORM: Final = re.compile(r"chk_[A-Za-z0-9_-]{43}", re.ASCII)
# With the prefix; 36 of the 256 random bits are told.
_HINT_CHARACTERS: Final = 10
LONGEST_NAME: Final = 100
# Of one account.
MOST_KEYS: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key that a program uses in the name of an account; the key itself is not kept."""

    id: UUID
    user_id: UUID
    name: str
    key_hash: bytes
    hint: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None


def new_key() -> str:
    """Make a key of 256 random bits: 47 characters."""
    random = secrets.token_bytes(_RANDOM_BYTES)
    return PREFIX + base64.urlsafe_b64encode(random).rstrip(b"=").decode()


def looks_like_key(text: str) -> bool:
    """Whether a text has the form of a key."""
    return _FORM.fullmatch(text) is not None


def hash_of(key: str) -> bytes:
    """What a key is known by: its SHA-256. Nobody can find a key of so many random bits by it."""
    return hashlib.sha256(key.encode()).digest()


def hint_of(key: str) -> str:
    """The beginning of a key, for its owner to know it by."""
    return key[:_HINT_CHARACTERS]


def clean_name(raw: str) -> str:
    """Make a name of what was given: in NFC, on one line, without what controls the display.

    It may come out empty, or longer than `LONGEST_NAME` characters: both are for the caller to refuse.
    """
    # A long run of combining marks takes quadratic time to normalise.
    name = " ".join(unicodedata.normalize("NFC", raw[: 4 * LONGEST_NAME]).split())
    return " ".join("".join(filter(is_harmless, name)).split())
