"""What every limiter does: in one process, and shared through Valkey."""

from __future__ import annotations

import asyncio

import pytest

from chitram.platform.rate_limits.local import LocalLimiter
from chitram.platform.rate_limits.policy import Limiter, Policy
from tests.support.limiters import TEN, NewLimiter, new_shared, patient, someone, taken

__all__ = ["new_shared", "patient", "someone"]

pytestmark = pytest.mark.usefixtures("patient")

# One unit comes back every second.
SIXTY = Policy("uploads", 60)


@pytest.fixture(params=["local", "shared"])
async def limiter(request: pytest.FixtureRequest, new_shared: NewLimiter) -> Limiter:
    return LocalLimiter() if request.param == "local" else await new_shared()


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
