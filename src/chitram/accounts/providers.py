"""What implements the ports of accounts."""

from __future__ import annotations

from dishka import Provider, Scope, provide

from chitram.accounts.public import ANONYMOUS, Authenticator, Principal


class EveryoneIsAnonymous:
    """Believes no credentials, for there are no accounts yet."""

    async def principal(self, authorization: str | None, api_key: str | None) -> Principal:  # noqa: ARG002 - part of the protocol
        return ANONYMOUS


class AccountsProvider(Provider):
    """Ports to adapters."""

    scope = Scope.APP
    authenticator = provide(EveryoneIsAnonymous, provides=Authenticator)
