"""Counts of several processes, summed up in Valkey."""

from __future__ import annotations

import pytest

from chitram.delivery.adapters.metadata_cache.statistics import Counts, read_sums, reset_sums
from chitram.platform.valkey import ValkeyUnavailable
from tests.support.caches import CacheProcess, Rows
from tests.support.proxy import Mode, Proxy


async def test_the_sums_are_those_of_all_processes(
    here: CacheProcess, there: CacheProcess, rows: Rows
) -> None:
    image_id = rows.add()
    for process in (here, here, there):
        await process.sees(image_id)
    for process in (here, there):
        await process.statistics.flush()
        await process.statistics.flush()
        assert process.counts == Counts()
    assert await read_sums(here.client) == Counts(local_hits=1, shared_hits=1, misses=1, loads=1)
    await reset_sums(here.client)
    assert await read_sums(here.client) == Counts()


async def test_counts_are_kept_while_valkey_is_away(here: CacheProcess, rows: Rows, proxy: Proxy) -> None:
    await here.sees(rows.add())
    proxy.mode = Mode.CUT
    proxy.cut_all()
    with pytest.raises(ValkeyUnavailable):
        await here.statistics.flush()
    assert (here.counts.misses, here.counts.loads) == (1, 1)


def test_a_remembered_miss_counts_as_a_hit_and_nothing_has_no_ratio() -> None:
    assert Counts().hit_ratio is None
    assert Counts(local_hits=90, shared_hits=3, local_missing=1, shared_missing=1, misses=5).hit_ratio == 0.95
