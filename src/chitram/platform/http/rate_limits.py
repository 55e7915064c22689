"""Rate limits over HTTP: which routes have one, whom it counts, what they are told."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address, IPv6Network
from typing import Any

from litestar import Request
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from chitram.kernel.errors import Category, ChitramError
from chitram.platform.networks import IPAddress, Networks, parse_address
from chitram.platform.rate_limits.limits import RateLimits
from chitram.platform.rate_limits.policy import WINDOW_SECONDS, Decision, Policy

# `opt={RATE_LIMIT: UPLOADS}` on a route puts it under that policy.
RATE_LIMIT = "rate_limit"
_METER = "rate_limit_meter"
# What one household or server gets; within it addresses are free to choose (RFC 6177).
_IPV6_PREFIX = 64

AccountOf = Callable[[Scope], Awaitable[str | None]]


class RateLimitExceeded(ChitramError):
    """The client has taken all that its limit allows for now."""

    code = "RATE_LIMIT_EXCEEDED"
    category = Category.RATE_LIMITED
    default_message = "Too many requests. Try again later."

    def __init__(self, policy: Policy, decision: Decision) -> None:
        retry_after = math.ceil(decision.retry_after)
        super().__init__(
            details={
                "policy": policy.name,
                "limit": policy.limit,
                "window_seconds": WINDOW_SECONDS,
                "retry_after": retry_after,
            },
            retry_after=retry_after,
        )
        self.headers = rate_limit_headers(policy, decision)


def rate_limit_headers(policy: Policy, decision: Decision) -> dict[str, str]:
    """The fields of draft-ietf-httpapi-ratelimit-headers-11."""
    window = math.ceil(decision.effective_window)
    return {
        "ratelimit-policy": f'"{policy.name}";q={policy.limit};w={WINDOW_SECONDS}',
        "ratelimit": f'"{policy.name}";r={decision.remaining};t={window}',
    }


class Meter:
    """What one request takes of its limit; `client` is whom it counts."""

    def __init__(self, limits: RateLimits, policy: Policy, client: str) -> None:
        self._limits = limits
        self._policy = policy
        self.client = client
        self._last: Decision | None = None

    async def charge(self) -> None:
        """Take one unit. Raises `RateLimitExceeded`."""
        self._last = await self._limits.take(self._policy, self.client)
        if self._last and not self._last.allowed:
            raise RateLimitExceeded(self._policy, self._last)

    def telling(self, send: Send) -> Send:
        """Send as before, and say in the head of the answer what is known of the limit by then."""

        def send_with_fields(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start" and self._last:
                told = rate_limit_headers(self._policy, self._last)
                fields = ((name.encode(), value.encode()) for name, value in told.items())
                message = {**message, "headers": [*message.get("headers", ()), *fields]}
            return send(message)

        return send_with_fields


async def charge(request: Request[Any, Any, State]) -> None:
    """Take one unit more, beside the one that every request of a limited route takes.

    Raises `RateLimitExceeded`.
    """
    meter: Meter | None = request.scope["state"].get(_METER)
    if meter:
        await meter.charge()


def client_of(request: Request[Any, Any, State]) -> str | None:
    """Whom the limit of a request counts; None when nothing limits it."""
    meter: Meter | None = request.scope["state"].get(_METER)
    return meter.client if meter else None


class Metering:
    """Says which limit a request is under, and whom it counts.

    Args:
        limits: the limits in force.
        unlimited: addresses that are never limited.
    """

    def __init__(self, limits: RateLimits, unlimited: Networks) -> None:
        self._limits = limits
        self._unlimited = unlimited

    def policy(self, name: str) -> Policy | None:
        """The policy of this name, or None when it is off."""
        return self._limits.policy(name)

    async def meter(self, policy: Policy, scope: Scope, account_of: AccountOf) -> Meter | None:
        """What a request takes of a limit; None when the limit does not hold for it.

        Args:
            policy: the limit.
            scope: of the request.
            account_of: names the account that makes a request; None without one. Limits count by
                account, else by address, of IPv6 by /64.
        """
        address = parse_address(scope["client"][0]) if scope["client"] else None
        if address is not None and address in self._unlimited:
            return None
        account = None if policy.by_address else await account_of(scope)
        return Meter(self._limits, policy, f"account:{account}" if account else _address_key(address))


class RateLimiting(ASGIMiddleware):
    """Takes one unit for each request of a limited route, before anything of its body is read.

    Args:
        metering: gives the limits in force.
        account_of: as of `Metering.meter`.
    """

    scopes = (ScopeType.HTTP,)

    def __init__(self, metering: Callable[[], Awaitable[Metering]], account_of: AccountOf) -> None:
        self._metering = metering
        self._account_of = account_of

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        meter = await self._meter(scope)
        if meter is None:
            await next_app(scope, receive, send)
            return
        # A refusal goes round `telling`: it brings the fields itself.
        await meter.charge()
        scope["state"][_METER] = meter
        await next_app(scope, receive, meter.telling(send))

    async def _meter(self, scope: Scope) -> Meter | None:
        name = scope["route_handler"].opt.get(RATE_LIMIT)
        if name is None:
            return None
        metering = await self._metering()
        policy = metering.policy(name)
        return await metering.meter(policy, scope, self._account_of) if policy else None


def _address_key(address: IPAddress | None) -> str:
    if isinstance(address, IPv6Address):
        return f"address:{IPv6Network((address, _IPV6_PREFIX), strict=False)}"
    return f"address:{address or 'unknown'}"
