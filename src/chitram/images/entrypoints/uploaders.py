"""Who may upload, decided by the head of a request, and when it is their turn."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from litestar import Request

from chitram.accounts.public import Authenticator, Principal, Scope, principal_of
from chitram.images.entrypoints.slots import UploadSlots


class Uploaders:
    """Lets those pass who may upload: whoever is signed in, and the anonymous where they may."""

    def __init__(self, authenticator: Authenticator, slots: UploadSlots, *, anonymous: bool) -> None:
        self._authenticator = authenticator
        self._slots = slots
        self._anonymous = anonymous

    async def admit(self, request: Request[Any, Any, Any]) -> Principal:
        """Say who uploads, before a slot is taken or the body read.

        Raises `NotAuthenticated` for the anonymous where they may not, `Forbidden` for credentials
        without the scope, and what `principal_of` raises.
        """
        return await self._principal(request, anonymous=self._anonymous)

    async def admit_to_complete(self, request: Request[Any, Any, Any]) -> Principal:
        """Do as `admit`; who began an upload anonymously may complete it in any case."""
        return await self._principal(request, anonymous=True)

    def turn(self, request: Request[Any, Any, Any]) -> AbstractAsyncContextManager[None]:
        """Wait for an upload slot, and hold it; raises what `UploadSlots.taken` raises."""
        return self._slots.taken(request.scope["client"])

    async def _principal(self, request: Request[Any, Any, Any], *, anonymous: bool) -> Principal:
        principal = await principal_of(request.headers, self._authenticator)
        if principal.user_id is not None or not anonymous:
            principal.require(Scope.WRITE)
        return principal
