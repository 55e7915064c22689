"""What every limiter does: in one process, and shared through Valkey."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import pytest
from structlog.testing import capture_logs
from valkey.asyncio import Valkey

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
from chitram.platform.rate_limits.shared import SharedLimiter
from chitram.platform.settings import Settings
from chitram.platform.valkey import make_valkey
from tests.support.proxy import Mode, Proxy

TEN = Policy("uploads", 10)
# One unit comes back every second.
SIXTY = Policy("uploads", 60)
# What a client is promised without Valkey, and some for the test itself on a busy machine.
FAIL_OPEN_SECONDS = 0.05
SLACK_SECONDS = 0.2

NewLimiter = Callable[[], Awaitable[SharedLimiter]]


@pytest.fixture
async def new_shared(valkey_url: str) -> AsyncIterator[Callable[..., Awaitable[SharedLimiter]]]:
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


@pytest.fixture(params=["local", "shared"])
async def limiter(request: pytest.FixtureRequest, new_shared: NewLimiter) -> Limiter:
    return LocalLimiter() if request.param == "local" else await new_shared()


@pytest.fixture
def someone() -> str:
    return f"address:{uuid4()}"


async def taken(limiter: Limiter, policy: Policy, client: str, cost: int = 1) -> Decision:
    decision = await limiter.take(policy, client, cost)
    assert decision is not None
    return decision


async def test_the_whole_limit_may_come_at_once_and_no_more(limiter: Limiter, someone: str) -> None:
    decisions = [await taken(limiter, TEN, someone) for _ in range(12)]
    assert [decision.allowed for decision in decisions] == [True] * 10 + [False] * 2
    assert [decision.remaining for decision in decisions] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0]


async def test_a_decision_says_when_the_next_unit_comes_back(limiter: Limiter, someone: str) -> None:
    first = await taken(limiter, TEN, someone)
    assert first.retry_after == 0
    assert first.effective_window == 6.0
    assert (await taken(limiter, TEN, someone, 9)).allowed
    refused = await taken(limiter, TEN, someone)
    assert not refused.allowed
    assert 4 < refused.retry_after < 6
    assert refused.effective_window == refused.retry_after


async def test_waiting_as_told_lets_exactly_one_through(limiter: Limiter, someone: str) -> None:
    await taken(limiter, SIXTY, someone, SIXTY.limit)
    refused = await taken(limiter, SIXTY, someone)
    assert 0 < refused.retry_after <= 1
    await asyncio.sleep(refused.retry_after)
    decisions = [await taken(limiter, SIXTY, someone) for _ in range(3)]
    assert [decision.allowed for decision in decisions] == [True, False, False]


async def test_a_refused_request_takes_nothing(limiter: Limiter, someone: str) -> None:
    await taken(limiter, TEN, someone, 8)
    refused = await taken(limiter, TEN, someone, 3)
    assert (refused.allowed, refused.remaining) == (False, 2)
    assert 5 < refused.retry_after <= 6
    assert (await taken(limiter, TEN, someone, 2)).allowed


async def test_clients_and_policies_do_not_share(limiter: Limiter, someone: str) -> None:
    await taken(limiter, TEN, someone, 10)
    assert not (await taken(limiter, TEN, someone)).allowed
    assert (await taken(limiter, TEN, f"{someone}!")).allowed
    assert (await taken(limiter, Policy("reads", 10), someone)).allowed


@pytest.mark.parametrize("limit", [1, 7, 10, 59, 60, 61, 997, 1000])
async def test_the_limit_is_exact_whatever_it_is(limiter: Limiter, someone: str, limit: int) -> None:
    policy = Policy("uploads", limit)
    assert (await taken(limiter, policy, someone, limit)).allowed
    if policy.interval > 1_000_000:
        assert not (await taken(limiter, policy, someone)).allowed


@pytest.mark.parametrize("limit", [1, 7, 10, 13])
async def test_so_many_single_units_are_exactly_the_limit(limiter: Limiter, someone: str, limit: int) -> None:
    policy = Policy("uploads", limit)
    decisions = [await taken(limiter, policy, someone) for _ in range(limit + 1)]
    assert [decision.allowed for decision in decisions] == [True] * limit + [False]


@pytest.mark.parametrize("cost", [0, -1, 11])
async def test_units_that_could_never_be_taken_are_an_error(
    limiter: Limiter, someone: str, cost: int
) -> None:
    with pytest.raises(ValueError, match="units of uploads"):
        await limiter.take(TEN, someone, cost)


async def test_many_at_once_over_several_clients_get_exactly_the_limit(
    new_shared: NewLimiter, someone: str
) -> None:
    limiters = [await new_shared() for _ in range(4)]
    decisions = await asyncio.gather(
        *(taken(limiter, TEN, someone) for _ in range(250) for limiter in limiters)
    )
    assert sum(decision.allowed for decision in decisions) == 10
    assert all(0 < decision.retry_after <= 6 for decision in decisions if not decision.allowed)


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


async def held_up(steps: int) -> list[Decision]:
    """Take so many steps of the loop, each of which is held up for longer than a look."""
    for _ in range(steps):
        time.sleep(0.012)  # noqa: ASYNC251 - what it shows is a loop that is blocked
        await asyncio.sleep(0)
    return []


async def test_looks_that_come_late_count_less() -> None:
    assert await shared._finishes(asyncio.create_task(held_up(20)))
    endless = asyncio.create_task(held_up(100))
    assert not await shared._finishes(endless)
    endless.cancel()


async def test_any_number_at_once_needs_one_connection(
    valkey_url: str, new_shared: Callable[..., Awaitable[SharedLimiter]], someone: str
) -> None:
    async with Proxy(valkey_url) as proxy:
        limiter = await new_shared(proxy.url)
        decisions = await asyncio.gather(*(taken(limiter, TEN, someone) for _ in range(250)))
        assert sum(decision.allowed for decision in decisions) == 10
        assert proxy.accepted == 1


async def test_a_caller_that_leaves_does_not_disturb_the_others(new_shared: NewLimiter, someone: str) -> None:
    limiter = await new_shared()
    tasks = [asyncio.create_task(limiter.take(TEN, someone)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
    assert all(isinstance(answer, Decision) for answer in answers[1::2])


async def test_keys_are_named_versioned_and_expire(valkey_url: str, new_shared: NewLimiter) -> None:
    client = f"address:{uuid4()}"
    await taken(await new_shared(), TEN, client, 3)
    async with make_valkey(Settings(valkey_url=valkey_url)) as server:
        [key] = [key async for key in server.scan_iter(f"*{client}")]
        assert key.decode() == f"chitram:rate:1:uploads:{client}"
        assert 17_000 < await server.pttl(key) <= 18_001


@pytest.mark.parametrize("stored", [b"rubbish", b"9e99", b"9000000000000000", b"-1", b"nan", b""])
async def test_a_value_that_nothing_here_wrote_blocks_nobody_for_longer_than_a_minute(
    valkey_url: str, new_shared: NewLimiter, someone: str, stored: bytes
) -> None:
    async with make_valkey(Settings(valkey_url=valkey_url)) as server:
        await server.set(f"chitram:rate:1:uploads:{someone}", stored)
        decision = await taken(await new_shared(), TEN, someone)
        assert decision.allowed or 0 < decision.retry_after <= 60
        await server.delete(f"chitram:rate:1:uploads:{someone}")


async def test_a_server_that_has_lost_everything_is_asked_again_with_the_script(
    valkey_url: str, new_shared: NewLimiter, someone: str
) -> None:
    limiter = await new_shared()
    await taken(limiter, TEN, someone)
    async with make_valkey(Settings(valkey_url=valkey_url)) as server:
        await server.script_flush()
    decisions = await asyncio.gather(*(taken(limiter, TEN, someone) for _ in range(30)))
    assert sum(decision.allowed for decision in decisions) == 9


async def asked_in_two_goes(limiter: Limiter, client: str) -> list[Decision | None]:
    """Ask 50 times at once, and 50 times more while these are being asked for."""
    first = [asyncio.create_task(limiter.take(TEN, client)) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return await asyncio.gather(*first, *(limiter.take(TEN, client) for _ in range(50)))


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.HANG])
async def test_without_valkey_it_says_so_at_once_and_comes_back_by_itself(
    valkey_url: str, new_shared: Callable[..., Awaitable[SharedLimiter]], someone: str, mode: Mode
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
        assert time.monotonic() - started < FAIL_OPEN_SECONDS + SLACK_SECONDS
        # From now on nothing is waited for at all.
        asked = proxy.accepted
        assert await asyncio.gather(*(limiter.take(TEN, someone) for _ in range(100))) == [None] * 100
        assert proxy.accepted == asked
        proxy.mode = Mode.PASS
        proxy.cut_all()
        async with asyncio.timeout(10):
            while await limiter.take(TEN, someone) is None:
                await asyncio.sleep(0.05)


async def test_a_valkey_that_refuses_is_one_that_is_away(
    valkey_url: str, new_shared: NewLimiter, someone: str
) -> None:
    limiter = await new_shared()
    async with make_valkey(Settings(valkey_url=valkey_url)) as server:
        await server.hset(f"chitram:rate:1:uploads:{someone}", "another", "type")  # type: ignore[misc] # its stubs
        with capture_logs() as lines:
            assert await limiter.take(TEN, someone) is None
            assert await limiter.take(TEN, someone) is None
        assert [(line["event"], line["log_level"]) for line in lines] == [("rate limits off", "warning")]
        await server.delete(f"chitram:rate:1:uploads:{someone}")


async def test_a_limiter_that_never_reached_valkey_works_without_limits(
    new_shared: Callable[..., Awaitable[SharedLimiter]],
) -> None:
    limiter = await new_shared("valkey://127.0.0.1:9/0")
    assert await limiter.take(TEN, "address:192.0.2.1") is None


async def test_closing_answers_whoever_waits(
    valkey_url: str, new_shared: Callable[..., Awaitable[SharedLimiter]]
) -> None:
    async with Proxy(valkey_url) as proxy:
        limiter = await new_shared(proxy.url)
        proxy.mode = Mode.HANG
        waiting = [asyncio.create_task(limiter.take(TEN, "address:192.0.2.1")) for _ in range(3)]
        await asyncio.sleep(0)
        await limiter.aclose()
        assert await asyncio.gather(*waiting) == [None] * 3


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


def test_units_are_whole_microseconds_and_never_more_than_the_limit() -> None:
    for limit in range(1, 2000):
        interval = Policy("uploads", limit).interval
        assert isinstance(interval, int)
        assert (interval - 1) * limit < 60_000_000 <= interval * limit


class Clock:
    """Microseconds that go only when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000_000

    def __call__(self) -> int:
        return self.now


async def test_units_come_back_one_by_one() -> None:
    clock = Clock()
    limiter = LocalLimiter(clock)
    await taken(limiter, TEN, "a", 10)
    clock.now += 5_999_999
    assert not (await taken(limiter, TEN, "a")).allowed
    clock.now += 1
    assert (await taken(limiter, TEN, "a")).allowed
    assert not (await taken(limiter, TEN, "a")).allowed
    clock.now += 60_000_000
    assert (await taken(limiter, TEN, "a", 10)).allowed


async def test_memory_of_clients_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chitram.platform.rate_limits.local._MOST_CLIENTS", 100)
    clock = Clock()
    limiter = LocalLimiter(clock)
    for number in range(250):
        await limiter.take(TEN, f"address:{number}")
    assert len(limiter._arrivals) == 100
    clock.now += 60_000_000
    await limiter.take(TEN, "address:new")
    assert len(limiter._arrivals) == 1


async def test_a_paused_server_is_not_waited_for(valkey_url: str, new_shared: NewLimiter) -> None:
    limiter = await new_shared()
    client = f"address:{uuid4()}"
    await taken(limiter, TEN, client)
    async with make_valkey(Settings(valkey_url=valkey_url)) as server:
        await server.client_pause(10_000, all=False)
        try:
            started = time.monotonic()
            assert await limiter.take(TEN, client) is None
            assert time.monotonic() - started < FAIL_OPEN_SECONDS + SLACK_SECONDS
        finally:
            await server.client_unpause()
