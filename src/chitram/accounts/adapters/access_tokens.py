"""Access tokens as JSON Web Tokens (RFC 7519), signed with HMAC-SHA-256."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import jwt

from chitram.accounts.domain.errors import InvalidToken, TokenExpired
from chitram.accounts.ports import Claims
from chitram.kernel.clock import Clock
from chitram.kernel.ids import new_id
from chitram.platform.signing import derived_key

# The one algorithm there is: what a token says of its own is not asked.
_ALGORITHM: Final = "HS256"
_PURPOSE: Final = "access token"
_ISSUER: Final = "chitram"
_AUDIENCE: Final = "chitram-api"
_REQUIRED: Final = ("iss", "aud", "sub", "sid", "iat", "exp", "jti")
# Clocks of servers that keep the same time differ by less.
_LEEWAY: Final = timedelta(seconds=10)
# One of ours has about 400.
_MOST_CHARACTERS: Final = 2048
_FINGERPRINT_CHARACTERS: Final = 16


class JwtAccessTokens:
    """Tokens that any process with the same keys reads.

    The first of `keys` signs and all verify; `kid` in the header says which, by a fingerprint of
    the derived key. What is signed for another purpose is worth nothing here.

    Args:
        keys: `SECRET_KEYS`.
        life: how long a token is good. It is taken for 10 seconds more, and may come from a server
            whose clock is 10 seconds ahead.
        clock: tells when a token is made.
    """

    def __init__(self, keys: tuple[str, ...], life: timedelta, clock: Clock) -> None:
        if not keys:
            raise ValueError("there is no key to sign with")
        derived = [derived_key(key, _PURPOSE) for key in keys]
        self._keys = {_fingerprint(key): key for key in derived}
        self._signs_with = _fingerprint(derived[0])
        self._life = life
        self._clock = clock

    def issue(self, user_id: UUID, session_id: UUID) -> tuple[str, int]:
        now = self._clock.now()
        claims = {
            "iss": _ISSUER,
            "aud": _AUDIENCE,
            "sub": str(user_id),
            "sid": str(session_id),
            "iat": int(now.timestamp()),
            "exp": int((now + self._life).timestamp()),
            "jti": str(new_id(now)),
        }
        key = self._keys[self._signs_with]
        token = jwt.encode(claims, key, algorithm=_ALGORITHM, headers={"kid": self._signs_with})
        return token, int(self._life.total_seconds())

    def read(self, token: str) -> Claims:
        if len(token) > _MOST_CHARACTERS:
            raise InvalidToken
        try:
            return _claims(self._verified(token))
        except jwt.ExpiredSignatureError:
            raise TokenExpired from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            # Any text may come here: no base64, no JSON, one that nests without end.
            raise InvalidToken from None

    def _verified(self, token: str) -> dict[str, Any]:
        key = self._keys.get(jwt.get_unverified_header(token).get("kid", ""))
        if key is None:
            raise InvalidToken
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[_ALGORITHM],
            issuer=_ISSUER,
            audience=_AUDIENCE,
            leeway=_LEEWAY,
            options={"require": list(_REQUIRED)},
        )
        return claims


def _fingerprint(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:_FINGERPRINT_CHARACTERS]


def _claims(claims: dict[str, Any]) -> Claims:
    return Claims(
        user_id=UUID(claims["sub"]),
        session_id=UUID(claims["sid"]),
        token_id=UUID(claims["jti"]),
        issued_at=datetime.fromtimestamp(claims["iat"], UTC),
        expires_at=datetime.fromtimestamp(claims["exp"], UTC),
    )
