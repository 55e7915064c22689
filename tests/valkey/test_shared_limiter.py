"""The limiter that asks Valkey: how it asks, and what it does without an answer."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from chitram.platform.rate_limits import shared
from chitram.platform.rate_limits.limits import RateLimits
from chitram.platform.rate_limits.local import LocalLimiter
from chitram.platform.rate_limits.policy import (
    LOGINS,
    READS,
    UPLOADS,
    Decision,
    Limiter,
    Policy,
    policies_from_settings,
)
from chitram.platform.settings import Settings
from chitram.platform.valkey import make_valkey
from tests.support.limiters import TEN, NewLimiter, new_shared, patient, someone, taken
from tests.support.proxy import Mode, Proxy

__all__ = ["new_shared", "patient", "someone"]

# Less than the time-outs of the client; what is promised is less still, but the machine may be busy.
FAIL_OPEN_SECONDS = 1.5


async def test_it_is_exact_too_while_the_process_is_busy(new_shared: NewLimiter, someone: str) -> None:
    limiters = [await new_shared() for _ in range(2)]
    over = asyncio.Event()

    async def hog() -> None:
        while not over.is_set():
            time.sleep(0.08)  # noqa: ASYNC251 - what it shows is a loop that is blocked
            await asyncio.sleep(0)

    hogging = asyncio.create_task(hog())
    decisions = await asyncio.gather(*(limiter.take(TEN, someone) for _ in range(50) for limiter in limiters))
    over.set()
    await hogging
    assert None not in decisions
    assert sum(decision.allowed for decision in decisions if decision) == 10


@pytest.mark.usefixtures("patient")
async def test_any_number_at_once_needs_one_connection(
    valkey_url: str, new_shared: NewLimiter, someone: str
) -> None:
    async with Proxy(valkey_url) as proxy:
        limiter = await new_shared(proxy.url)
        decisions = await asyncio.gather(*(taken(limiter, TEN, someone) for _ in range(250)))
        assert sum(decision.allowed for decision in decisions) == 10
        assert proxy.accepted == 1


@pytest.mark.usefixtures("patient")
async def test_a_caller_that_leaves_does_not_disturb_the_others(new_shared: NewLimiter, someone: str) -> None:
    limiter = await new_shared()
    tasks = [asyncio.create_task(limiter.take(TEN, someone)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
    assert all(isinstance(answer, Decision) for answer in answers[1::2])


@pytest.mark.usefixtures("patient")
async def test_keys_are_named_versioned_and_expire(valkey_url: str, new_shared: NewLimiter) -> None:
    client = f"address:{uuid4()}"
    await taken(await new_shared(), TEN, client, 3)
    async with make_valkey(Settings(valkey_url=valkey_url)) as server:
        [key] = [key async for key in server.scan_iter(f"*{client}")]
        assert key.decode() == f"chitram:rate:1:uploads:{client}"
        assert 17_000 < await server.pttl(key) <= 18_001


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("stored", [b"rubbish", b"9e99", b"9000000000000000", b"-1", b"nan", b""])
async def test_a_value_that_nothing_here_wrote_blocks_nobody_for_longer_than_a_minute(
    valkey_url: str, new_shared: NewLimiter, someone: str, stored: bytes
) -> None:
    async with make_valkey(Settings(valkey_url=valkey_url)) as server:
        await server.set(f"chitram:rate:1:uploads:{someone}", stored)
        decision = await taken(await new_shared(), TEN, someone)
        assert decision.allowed or 0 < decision.retry_after <= 60
        await server.delete(f"chitram:rate:1:uploads:{someone}")


@pytest.mark.usefixtures("patient")
async def test_a_server_that_has_lost_everything_is_asked_again_with_the_script(
    valkey_url: str, new_shared: NewLimiter, someone: str
) -> None:
    limiter = await new_shared()
    await taken(limiter, TEN, someone)
    async with make_valkey(Settings(valkey_url=valkey_url)) as server:
        await server.script_flush()
    decisions = await asyncio.gather(*(taken(limiter, TEN, someone) for _ in range(30)))
    assert sum(decision.allowed for decision in decisions) == 9


async def until_on(limiter: Limiter, client: str) -> None:
    async with asyncio.timeout(10):
        while await limiter.take(TEN, client) is None:
            await asyncio.sleep(0.05)


async def asked_in_two_goes(limiter: Limiter, client: str) -> list[Decision | None]:
    """Ask 50 times at once, and 50 times more while these are being asked for."""
    first = [asyncio.create_task(limiter.take(TEN, client)) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return await asyncio.gather(*first, *(limiter.take(TEN, client) for _ in range(50)))


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.HANG])
async def test_without_valkey_it_says_so_at_once_and_comes_back_by_itself(
    valkey_url: str, new_shared: NewLimiter, someone: str, mode: Mode
) -> None:
    async with Proxy(valkey_url) as proxy:
        limiter = await new_shared(proxy.url)
        await taken(limiter, TEN, someone)
        proxy.mode = mode
        if mode is Mode.CUT:
            proxy.cut_all()
        started = time.monotonic()
        async with asyncio.timeout(5):
            answers = await asked_in_two_goes(limiter, someone)
        assert answers == [None] * 100
        assert time.monotonic() - started < FAIL_OPEN_SECONDS
        # From now on nothing is waited for, and nothing asked but whether it works again.
        asked = proxy.accepted
        assert await asyncio.gather(*(limiter.take(TEN, someone) for _ in range(100))) == [None] * 100
        assert proxy.accepted <= asked + 1
        proxy.mode = Mode.PASS
        proxy.cut_all()
        await until_on(limiter, someone)


async def test_a_valkey_that_refuses_is_one_that_is_away(
    valkey_url: str, new_shared: NewLimiter, someone: str
) -> None:
    limiter = await new_shared()
    async with make_valkey(Settings(valkey_url=valkey_url)) as server:
        await server.hset(f"chitram:rate:1:uploads:{someone}", "another", "type")  # type: ignore[misc] # its stubs
        with capture_logs() as lines:
            assert await limiter.take(TEN, someone) is None
        assert [(line["event"], line["log_level"]) for line in lines] == [("rate limits off", "warning")]
        await server.delete(f"chitram:rate:1:uploads:{someone}")
    await until_on(limiter, someone)


async def test_one_slow_answer_lifts_limits_for_a_moment_but_a_second_for_longer(
    valkey_url: str, new_shared: NewLimiter, someone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "_RECOVERY_SECONDS", 60)
    async with Proxy(valkey_url) as proxy:
        limiter = await new_shared(proxy.url)
        proxy.mode = Mode.HANG
        assert await limiter.take(TEN, someone) is None
        proxy.mode = Mode.PASS
        await until_on(limiter, someone)
        proxy.mode = Mode.HANG
        assert await limiter.take(TEN, someone) is None
        proxy.mode = Mode.PASS
        asked = proxy.accepted
        for _ in range(5):
            await asyncio.sleep(0.02)
            assert await limiter.take(TEN, someone) is None
        assert proxy.accepted == asked


async def test_a_limiter_that_never_reached_valkey_works_without_limits(
    new_shared: NewLimiter,
) -> None:
    limiter = await new_shared("valkey://127.0.0.1:9/0")
    assert await limiter.take(TEN, "address:192.0.2.1") is None


async def test_closing_answers_whoever_waits(valkey_url: str, new_shared: NewLimiter) -> None:
    async with Proxy(valkey_url) as proxy:
        limiter = await new_shared(proxy.url)
        proxy.mode = Mode.HANG
        waiting = [asyncio.create_task(limiter.take(TEN, "address:192.0.2.1")) for _ in range(3)]
        await asyncio.sleep(0)
        await limiter.aclose()
        assert await asyncio.gather(*waiting) == [None] * 3


async def test_a_paused_server_is_not_waited_for(valkey_url: str, new_shared: NewLimiter) -> None:
    limiter = await new_shared()
    client = f"address:{uuid4()}"
    await taken(limiter, TEN, client)
    async with make_valkey(Settings(valkey_url=valkey_url)) as server:
        await server.client_pause(10_000, all=False)
        try:
            started = time.monotonic()
            assert await limiter.take(TEN, client) is None
            assert time.monotonic() - started < FAIL_OPEN_SECONDS
        finally:
            await server.client_unpause()


class Silent:
    """A shared limiter whose Valkey is away."""

    async def take(self, policy: Policy, client: str, cost: int = 1) -> Decision | None:
        return None


async def test_without_valkey_uploads_and_reads_are_open_and_logins_are_not() -> None:
    policies = policies_from_settings(Settings(uploads_per_minute=2, reads_per_minute=2, logins_per_minute=2))
    limits = RateLimits(policies, Silent(), LocalLimiter())
    for name, allowed in [(UPLOADS, None), (READS, None), (LOGINS, False)]:
        policy = limits.policy(name)
        assert policy is not None
        decisions = [await limits.take(policy, "address:192.0.2.1") for _ in range(3)]
        assert (decisions[-1] and decisions[-1].allowed) == allowed


def test_a_limit_of_0_is_off() -> None:
    policies = policies_from_settings(Settings())
    uploads, logins = policies[UPLOADS], policies[LOGINS]
    assert uploads
    assert logins
    assert (uploads.limit, policies[READS], logins.limit) == (10, None, 10)
