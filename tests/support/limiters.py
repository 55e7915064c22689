"""Limiters for tests, and clients of theirs that nobody else is. The fixtures are for tests to import."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import pytest
from valkey.asyncio import Valkey

from chitram.platform.rate_limits import shared
from chitram.platform.rate_limits.policy import Decision, Limiter, Policy
from chitram.platform.rate_limits.shared import SharedLimiter
from chitram.platform.settings import Settings
from chitram.platform.valkey import make_valkey

NewLimiter = Callable[..., Awaitable[SharedLimiter]]

TEN = Policy("uploads", 10)


@pytest.fixture
async def new_shared(valkey_url: str) -> AsyncIterator[NewLimiter]:
    """Make limiters over connections of their own."""
    opened: list[tuple[SharedLimiter, Valkey]] = []

    async def make(url: str = valkey_url) -> SharedLimiter:
        client = make_valkey(Settings(valkey_url=url))
        limiter = SharedLimiter(client)
        opened.append((limiter, client))
        await limiter.connect()
        return limiter

    yield make
    for limiter, client in opened:
        await limiter.aclose()
        await client.aclose()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait as long as it takes: what is counted does not depend on how busy the machine is."""
    monkeypatch.setattr(shared, "_ANSWER_SECONDS", 10)


@pytest.fixture
def someone() -> str:
    return f"address:{uuid4()}"


async def taken(limiter: Limiter, policy: Policy, client: str, cost: int = 1) -> Decision:
    decision = await limiter.take(policy, client, cost)
    assert decision is not None
    return decision
