"""Limits under a thousand requests at once, over two instances of two workers."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest

from chitram.platform.rate_limits.policy import Policy
from chitram.platform.settings import Settings
from chitram.platform.valkey import make_valkey
from tests.support.api import Api, log_of, make_data_dir, running_api
from tests.support.database import NewUrl
from tests.support.photos import jpeg

pytestmark = pytest.mark.long

REQUESTS = 1000
TEN = Policy("uploads", 10)
INTERVAL_SECONDS = TEN.interval / 1e6
# How many try after the wait, and how often that is done.
EAGER = 20
ROUNDS = 3
PHOTO = jpeg(64, 48)
BUSY_PHOTO = jpeg(2400, 1800)
FRIEND = "192.0.2.1"


@dataclass(frozen=True)
class Answer:
    """One answer, and when the request was sent and answered by the clock of the machine."""

    status: int
    headers: dict[str, str]
    sent: float
    received: float

    @property
    def retry_after(self) -> int:
        return int(self.headers["retry-after"])


@pytest.fixture
async def instances(new_url: NewUrl, valkey_url: str) -> AsyncIterator[list[Api]]:
    """Two instances over one PostgreSQL and one Valkey, of two workers each."""
    database_url = await new_url()
    settings = {
        "HTTP_WORKERS": 2,
        "UPLOADS_PER_MINUTE": TEN.limit,
        "TRUSTED_PROXIES": "127.0.0.1",
        "RATE_LIMIT_ALLOW": FRIEND,
    }
    async with contextlib.AsyncExitStack() as stack:
        opened = []
        for _ in range(2):
            data_dir = make_data_dir()
            stack.callback(shutil.rmtree, data_dir, ignore_errors=True)
            # The second has objects of its own too: nothing here reads them.
            opened.append(
                await stack.enter_async_context(running_api(database_url, valkey_url, data_dir, settings))
            )
        yield opened


async def upload(api: Api, client: str, start: asyncio.Event, content: bytes = PHOTO) -> Answer:
    """Connect, wait for the start, send everything at once, read the answer."""
    reader, writer = await asyncio.open_connection(*api.host)
    try:
        await start.wait()
        head = (
            f"POST /api/v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n"
            f"X-Forwarded-For: {client}\r\nConnection: close\r\n\r\n"
        )
        sent = time.time()
        writer.write(head.encode() + content)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        received = time.time()
        await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    fields = (line.split(": ", 1) for line in lines[1:] if line)
    return Answer(int(lines[0].split()[1]), {name.lower(): value for name, value in fields}, sent, received)


async def at_once(instances: Sequence[Api], client: str, count: int) -> list[Answer]:
    """Send so many uploads of one client at one moment, shared among the instances."""
    start = asyncio.Event()
    tasks = [
        asyncio.create_task(upload(instances[place % len(instances)], client, start))
        for place in range(count)
    ]
    await asyncio.sleep(1)
    start.set()
    return await asyncio.gather(*tasks)


async def next_unit(valkey_url: str, client: str) -> float:
    """When the next unit comes back, as Valkey has it."""
    async with make_valkey(Settings(valkey_url=valkey_url)) as server:
        stored = await server.get(f"chitram:rate:1:uploads:address:{client}")
    return (int(stored) - (TEN.limit - 1) * TEN.interval) / 1e6


@contextlib.asynccontextmanager
async def kept_busy(instances: Sequence[Api]) -> AsyncIterator[Counter[int]]:
    """Keep every worker at work with large uploads of somebody who is not limited."""
    over = asyncio.Event()
    now = asyncio.Event()
    now.set()
    statuses: Counter[int] = Counter()

    async def one_after_another(api: Api) -> None:
        while not over.is_set():
            statuses[(await upload(api, FRIEND, now, BUSY_PHOTO)).status] += 1

    tasks = [asyncio.create_task(one_after_another(api)) for api in instances for _ in range(6)]
    await asyncio.sleep(1)
    yield statuses
    over.set()
    await asyncio.gather(*tasks)


def say(capsys: pytest.CaptureFixture[str], *lines: str) -> None:
    with capsys.disabled():
        print("", *lines, sep="\n  ")  # noqa: T201 - the table that this test is for


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_exactly_the_limit_passes_and_waiting_as_told_lets_exactly_one_through(
    instances: list[Api], valkey_url: str, capsys: pytest.CaptureFixture[str], *, busy: bool
) -> None:
    client = "203.0.113.8" if busy else "203.0.113.7"
    async with contextlib.AsyncExitStack() as stack:
        load = await stack.enter_async_context(kept_busy(instances)) if busy else Counter[int]()
        answers = await at_once(instances, client, REQUESTS)
        due = await next_unit(valkey_url, client)
        took = max(answer.received for answer in answers) - min(answer.sent for answer in answers)
        statuses = Counter(answer.status for answer in answers)
        refused = [answer for answer in answers if answer.status == 429]
        say(
            capsys,
            f"{REQUESTS} at once, 2 instances of 2 workers, {'busy' if busy else 'idle'}: {dict(statuses)}"
            f" in {took:.2f} s, Retry-After {dict(Counter(answer.retry_after for answer in refused))}",
        )
        allowed = TEN.limit if took < INTERVAL_SECONDS else TEN.limit + int(took // INTERVAL_SECONDS)
        assert TEN.limit <= statuses[201] <= allowed
        assert statuses[201] + statuses[429] == REQUESTS
        if statuses[201] == TEN.limit:
            for answer in refused:
                # Decided somewhere between the two moments: enough, and no second too much.
                assert answer.received + answer.retry_after >= due
                assert answer.sent + answer.retry_after < due + 1
        for number in range(ROUNDS):
            [first] = [answer for answer in await at_once(instances, client, 1) if answer.status == 429]
            await asyncio.sleep(first.received + first.retry_after - 1 - time.time())
            answers = await at_once(instances, client, EAGER)
            passed = Counter(answer.status for answer in answers)
            say(capsys, f"waited {first.retry_after} s, then {EAGER} at once: {dict(passed)}")
            assert passed == {201: 1, 429: EAGER - 1}, number
        if busy:
            say(capsys, f"meanwhile the load: {dict(load)}")
    for api in instances:
        assert "rate limits off" not in log_of(api)
