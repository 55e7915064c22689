"""Who is asking, and what for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from chitram.accounts.domain.errors import Forbidden, NotAuthenticated


class Scope(StrEnum):
    """What an API key may be used for. Whoever is signed in may do all that their account may."""

    READ = "images:read"
    WRITE = "images:write"
    ADMIN = "admin"


ALL_SCOPES: Final = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever makes a request.

    Attributes:
        user_id: None for anyone who is not signed in.
        is_admin: whether the account is an administrator's and the credentials may be used so.
        scopes: what the credentials may be used for.
        session_id: the session of an access token.
        api_key_id: the API key, if one was used.
    """

    user_id: UUID | None = None
    is_admin: bool = False
    scopes: frozenset[Scope] = ALL_SCOPES
    session_id: UUID | None = None
    api_key_id: UUID | None = None

    @property
    def viewer_id(self) -> UUID | None:
        """Whose private images these credentials may show."""
        return self.user_id if Scope.READ in self.scopes else None

    @property
    def sees_all(self) -> bool:
        """Whether these credentials may show everybody's private images."""
        return self.is_admin and Scope.READ in self.scopes

    def require(self, scope: Scope) -> UUID:
        """The account, if these credentials may be used for `scope`.

        Raises `NotAuthenticated` for the anonymous, and `Forbidden`.
        """
        if self.user_id is None:
            raise NotAuthenticated
        if scope not in self.scopes:
            raise Forbidden(details={"scope": scope.value})
        return self.user_id

    def require_session(self) -> UUID:
        """The account, if whoever asks has signed in: nothing that only people may do is for API keys.

        Raises `NotAuthenticated` for the anonymous, and `Forbidden`.
        """
        if self.user_id is None:
            raise NotAuthenticated
        if self.session_id is None:
            raise Forbidden("Sign in to do this: an API key may not.", details={"needs": "session"})
        return self.user_id


ANONYMOUS = Principal()
