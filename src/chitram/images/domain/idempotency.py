"""Idempotency keys: what they have to look like, and what makes two requests the same."""

from __future__ import annotations

import hashlib
import math
import string
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from chitram.kernel.errors import InvalidRequest

# How long a repeated request gets the first answer.
KEY_LIFE = timedelta(hours=24)
# Whoever works under a key says so again long before this is over; it ends with their process.
LEASE = timedelta(seconds=15)

_LONGEST_KEY = 255
# The key alone protects the delete token of an anonymous upload, so it has to be as hard to guess.
_LEAST_BITS = 128
_LEAST_DISTINCT = 8
# From the narrowest on: what a key may be written in. Hyphens, as in UUIDs, count for nothing.
_ALPHABETS = (
    string.digits,
    string.digits + "abcdef",
    string.digits + "ABCDEF",
    string.digits + string.ascii_lowercase,
    string.digits + string.ascii_uppercase,
    string.digits + string.ascii_letters + "+/_=",
)
_VISIBLE = {chr(code) for code in range(0x21, 0x7F)}


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A key that one principal sent.

    Attributes:
        text: as it was sent; not kept anywhere.
        hash: SHA-256 of principal and key, under which it is known.
    """

    text: str = field(repr=False)
    hash: bytes


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is known of a key.

    Attributes:
        request_digest: of what was asked for under it.
        sealed_answer: what came of it, readable by whoever has the key; None while it is under way.
    """

    request_digest: bytes
    sealed_answer: bytes | None = None


def idempotency_key(text: str | None, user_id: UUID | None) -> IdempotencyKey | None:
    """Read the key of a request by `user_id`, None for the anonymous.

    Raises `InvalidRequest` for a key that is no key, and for an anonymous one that could be guessed.
    """
    if text is None:
        return None
    if not (1 <= len(text) <= _LONGEST_KEY and set(text) <= _VISIBLE):
        raise _refusal(f"Idempotency-Key is 1 to {_LONGEST_KEY} visible ASCII characters.")
    if user_id is None and not _is_hard_to_guess(text):
        raise _refusal(
            "Without an account, Idempotency-Key has to be hard to guess, as it protects the delete "
            "token: a random UUID, or 22 or more random letters and digits."
        )
    principal = str(user_id or "anonymous")
    return IdempotencyKey(text, digest_of("idempotency key", principal, text))


def digest_of(*parts: str | bytes | int | None) -> bytes:
    """SHA-256 of a list of values, which no other list has."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        digest.update(f"{type(part).__name__}:{len(encoded)}:".encode())
        digest.update(encoded)
    return digest.digest()


def _is_hard_to_guess(text: str) -> bool:
    """Whether a key has room for enough random bits, and does not just repeat itself."""
    characters = text.replace("-", "")
    used = set(characters)
    sizes = (len(alphabet) for alphabet in _ALPHABETS if used <= set(alphabet))
    bits = len(characters) * math.log2(next(sizes, len(_VISIBLE)))
    return bits >= _LEAST_BITS and len(used) >= _LEAST_DISTINCT


def _refusal(message: str) -> InvalidRequest:
    return InvalidRequest(message, details={"field": "Idempotency-Key"})
