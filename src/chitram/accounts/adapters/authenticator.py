"""Who makes a request, by an access token or an API key."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from chitram.accounts.domain.api_key import PREFIX, hash_of, looks_like_key
from chitram.accounts.domain.errors import InvalidToken, TokenExpired
from chitram.accounts.domain.principal import ANONYMOUS, Principal, Scope
from chitram.accounts.ports import AccessTokens, KeyUses
from chitram.accounts.queries import ApiKeyQueries, SessionQueries
from chitram.kernel.clock import Clock

_SCHEME: Final = "bearer"


class TokenAuthenticator:
    """`SharedAuthenticator` by what was issued here: JSON Web Tokens of sessions, and API keys."""

    def __init__(
        self, tokens: AccessTokens, sessions: SessionQueries, keys: ApiKeyQueries, uses: KeyUses, clock: Clock
    ) -> None:
        self._tokens = tokens
        self._sessions = sessions
        self._keys = keys
        self._uses = uses
        self._clock = clock

    async def principal(self, authorization: str | None, api_key: str | None) -> Principal:
        credentials = _credentials(authorization, api_key)
        if credentials is None:
            return ANONYMOUS
        if credentials.startswith(PREFIX):
            return await self._with_key(credentials)
        return await self._with_token(credentials)

    async def _with_token(self, token: str) -> Principal:
        claims = self._tokens.read(token)
        session = await self._sessions.find(claims.session_id)
        if session is None or session.revoked or not session.is_active or session.user_id != claims.user_id:
            raise InvalidToken
        _check_time(session.expires_at, self._clock.now())
        return Principal(user_id=session.user_id, is_admin=session.is_admin, session_id=session.session_id)

    async def _with_key(self, text: str) -> Principal:
        if not looks_like_key(text):
            raise InvalidToken
        key = await self._keys.find(hash_of(text))
        if key is None or not key.is_active:
            raise InvalidToken
        now = self._clock.now()
        _check_time(key.expires_at, now)
        self._uses.note(key.key_id, now)
        return Principal(
            user_id=key.user_id,
            is_admin=key.is_admin and Scope.ADMIN in key.scopes,
            scopes=key.scopes,
            api_key_id=key.key_id,
        )


def _credentials(authorization: str | None, api_key: str | None) -> str | None:
    """What a request brings, if anything. Raises `InvalidToken` where that is not one good-looking thing."""
    given = [text for text in (authorization and _bearer(authorization), api_key) if text is not None]
    if authorization == "" or len(set(given)) > 1:
        raise InvalidToken
    if api_key is not None and not api_key.startswith(PREFIX):
        raise InvalidToken
    return given[0] if given else None


def _bearer(authorization: str) -> str:
    """The token of `Bearer <token>` (RFC 6750, section 2.1). Raises `InvalidToken`."""
    scheme, _, token = authorization.partition(" ")
    token = token.strip(" ")
    if scheme.lower() != _SCHEME or not token or not token.isascii() or " " in token:
        raise InvalidToken
    return token


def _check_time(end: datetime | None, now: datetime) -> None:
    if end is not None and end <= now:
        raise TokenExpired
