"""Readers and deleters over several processes, while Valkey comes and goes and loses messages."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import asyncpg
import pytest

from tests.support.database import NewUrl
from tests.support.instances import instances
from tests.support.proxy import Mode, Proxy
from tests.support.rows import MadeImage, make_images
from tests.support.servers import OwnValkey, own_valkey
from tests.support.steady_load import Client, Request

IMAGES = 1000
PROCESSES = 4
READERS = 50
DELETERS = 10
SECONDS = 90.0
READ_PAUSE = 0.1
RANDOM = random.SystemRandom()
# What other processes may still answer from.
STALE_SECONDS = 1.0

Step = Callable[[], Awaitable[None]]


@dataclass
class Race:
    """What was deleted when and where, and what was read."""

    clients: Sequence[Client]
    images: Sequence[MadeImage]
    phase: str = ""
    next_image: int = 0
    deleted: dict[int, tuple[float, int]] = field(default_factory=dict)
    reads: list[tuple[str, int, int, float, int, str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    epochs: dict[str, int] = field(default_factory=dict)
    over: bool = False

    async def read(self) -> None:
        """Read images around the one to be deleted next: some before, most after their deletion."""
        while not self.over:
            number = min(max(self.next_image + RANDOM.randint(-60, 15), 0), len(self.images) - 1)
            where = RANDOM.randrange(len(self.clients))
            sample = await self.clients[where].ask(Request("read", "GET", self.images[number].path))
            self.reads.append(
                (self.phase, number, where, sample.began, sample.status, sample.x_cache or sample.code)
            )
            await asyncio.sleep(READ_PAUSE)

    async def delete(self) -> None:
        while self.next_image < len(self.images):
            number, self.next_image = self.next_image, self.next_image + 1
            where = RANDOM.randrange(len(self.clients))
            image = self.images[number]
            sample = await self.clients[where].ask(
                Request("delete", "DELETE", image.path, headers=(("x-delete-token", image.token),))
            )
            if sample.status == 204:
                self.deleted[number] = (time.monotonic(), where)
            else:
                self.refused.append(f"{self.phase}: {sample.status} {sample.code}")
            await asyncio.sleep(SECONDS * DELETERS / IMAGES * RANDOM.uniform(0.5, 1.5))

    def report(self) -> list[tuple[str, int, int, int, int, int, int]]:
        """For each phase: deletes, reads, hits, stale in others within the second, and the two faults."""
        rows = []
        phases = list(dict.fromkeys(read[0] for read in self.reads))
        for phase in phases:
            reads = [read for read in self.reads if read[0] == phase]
            shown = [
                (began - self.deleted[number][0], where == self.deleted[number][1])
                for _, number, where, began, status, _ in reads
                if status == 200 and number in self.deleted and began > self.deleted[number][0]
            ]
            ages = [(began, number) for _, number, _, began, _, _ in reads if number in self.deleted]
            rows.append(
                (
                    phase,
                    sum(began > self.deleted[number][0] for began, number in ages),
                    len(reads),
                    sum(read[5] == "HIT" for read in reads),
                    sum(age <= STALE_SECONDS and not same for age, same in shown),
                    sum(age > STALE_SECONDS for age, _ in shown),
                    sum(same for _, same in shown),
                )
            )
        return rows


def chaos(valkey: OwnValkey, proxies: Sequence[Proxy]) -> list[tuple[str, Step]]:
    """The phases of the race, each with what begins it."""

    def modes(mode: Mode, some: Sequence[Proxy]) -> Step:
        async def begin() -> None:
            for proxy in proxies:
                proxy.mode = mode if proxy in some else Mode.PASS
                if proxy.mode is Mode.CUT:
                    proxy.cut_all()

        return begin

    async def restart() -> None:
        await modes(Mode.PASS, proxies)()
        valkey.kill()
        await asyncio.sleep(1)
        await valkey.restart()

    async def flicker() -> None:
        for _ in range(12):
            for proxy in proxies:
                proxy.mode = RANDOM.choice([Mode.PASS, Mode.PASS, Mode.CUT, Mode.HANG])
                if proxy.mode is Mode.CUT:
                    proxy.cut_all()
            await asyncio.sleep(0.5)
        await modes(Mode.PASS, proxies)()

    half = proxies[: len(proxies) // 2]
    return [
        ("all well", modes(Mode.PASS, proxies)),
        ("messages lost", modes(Mode.LOSE_MESSAGES, proxies)),
        ("cut off: all", modes(Mode.CUT, proxies)),
        ("all well again", modes(Mode.PASS, proxies)),
        ("hanging: all", modes(Mode.HANG, proxies)),
        ("well after hanging", modes(Mode.PASS, proxies)),
        ("cut off: half", modes(Mode.CUT, half)),
        ("hanging: half", modes(Mode.HANG, half)),
        ("killed, back empty", restart),
        ("coming and going", flicker),
        ("all well at the end", modes(Mode.PASS, proxies)),
    ]


async def epoch_of(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        epoch: int = await connection.fetchval("SELECT epoch FROM cache_epoch")
        return epoch
    finally:
        await connection.close()


@pytest.mark.long
async def test_no_deleted_image_is_read_from_any_cache(
    new_url: NewUrl, capsys: pytest.CaptureFixture[str]
) -> None:
    database_url = await new_url()
    images = await make_images(database_url, IMAGES)
    with own_valkey() as valkey:
        async with contextlib.AsyncExitStack() as stack:
            made = await stack.enter_async_context(instances(database_url, valkey.url, PROCESSES))
            clients = [await stack.enter_async_context(Client(each.api.url)) for each in made]
            race = Race(clients, images)
            phases = chaos(valkey, [each.valkey for each in made])
            readers = [asyncio.create_task(race.read()) for _ in range(READERS)]
            deleters = [asyncio.create_task(race.delete()) for _ in range(DELETERS)]
            for name, begin in phases:
                race.phase = name
                began = time.monotonic()
                race.epochs[name] = await epoch_of(database_url)
                await begin()
                await asyncio.sleep(max(0.0, began + SECONDS / len(phases) - time.monotonic()))
            await asyncio.gather(*deleters)
            race.epochs["the end"] = await epoch_of(database_url)
            race.over = True
            await asyncio.gather(*readers)
            await asyncio.sleep(STALE_SECONDS)
            left = [
                (await client.ask(Request("read", "GET", image.path))).status
                for client in clients
                for image in images
            ]
    rows = race.report()
    lines = [
        f"{'phase':<22}{'after delete':>13}{'reads':>8}{'hits':>8}{'stale <1 s':>12}{'>1 s':>6}{'own':>6}",
        *(
            f"{name:<22}{after:>13}{reads:>8}{hits:>8}{within:>12}{beyond:>6}{own:>6}"
            for name, after, reads, hits, within, beyond, own in rows
        ),
        f"epoch at the beginning of each: {list(race.epochs.values())}",
        f"deleted {len(race.deleted)}, shown in the end {left.count(200)}, not deleted: {race.refused}",
        f"other answers to reads: {Counter(read[4:] for read in race.reads if read[4] not in {200, 404})}",
    ]
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert [(name, beyond, own) for name, *_, beyond, own in rows if beyond or own] == []
    assert (len(race.deleted), race.refused) == (IMAGES, [])
    assert {read[4] for read in race.reads} == {200, 404}
    assert set(left) == {404}
