"""How often strangers may try to sign in to one account."""

from __future__ import annotations

from chitram.accounts.domain.user import Email
from chitram.platform.http.rate_limits import RateLimitExceeded
from chitram.platform.rate_limits.limits import RateLimits
from chitram.platform.rate_limits.policy import ACCOUNT_LOGINS
from chitram.platform.signing import Signer

_PURPOSE = "sign-in limit"


class RateLimitedSignIn:
    """Counts by a keyed hash of the address: neither Valkey nor the database tells it to who looks.

    Args:
        limits: the limits in force.
        keys: `SECRET_KEYS`. A new first one makes everyone a stranger once.
    """

    def __init__(self, limits: RateLimits, keys: tuple[str, ...]) -> None:
        self._limits = limits
        self._signer = Signer(keys, _PURPOSE)

    async def take(self, email: Email) -> None:
        policy = self._limits.policy(ACCOUNT_LOGINS)
        if policy is None:
            return
        decision = await self._limits.take(policy, f"email:{self._signer.sign('email', email.key)}")
        if decision and not decision.allowed:
            raise RateLimitExceeded(policy, decision)

    def origin(self, client: str) -> str:
        return self._signer.sign("origin", client)
