"""Upload slots are shared by all processes, waited for in order, and lost by nobody."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from chitram.images.domain.errors import UploadCapacityExceeded
from chitram.images.domain.patience import waiting
from chitram.images.entrypoints import slots as slots_module
from chitram.images.entrypoints.slots import UploadSlots
from chitram.platform.settings import Settings, SettingsError
from chitram.platform.slot_locks import SlotLocks
from tests.support.admission import competitor, count_of

# Within this, what has to happen happens.
PATIENT = 10.0
NewSlots = Callable[..., UploadSlots]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "slots"


@pytest.fixture
def new_locks(file: Path) -> Iterator[Callable[[int], SlotLocks]]:
    """Locks of processes over one file: the kernel tells open files apart, not processes."""
    with contextlib.ExitStack() as stack:

        def make(count: int) -> SlotLocks:
            locks = SlotLocks(file, count)
            stack.callback(locks.close)
            return locks

        yield make


@pytest.fixture
def new_slots(new_locks: Callable[[int], SlotLocks]) -> NewSlots:
    """Slots as one process after another has them."""
    return lambda count=1, queue=10, seconds=PATIENT: UploadSlots(
        new_locks(count), queue=queue, wait_seconds=seconds
    )


class Request:
    """One request that takes a slot, and gives it back when told."""

    def __init__(self, slots: UploadSlots) -> None:
        self.has_slot = asyncio.Event()
        self.leave = asyncio.Event()
        self._slots = slots
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self._slots.taken():
            self.has_slot.set()
            await self.leave.wait()

    async def holding(self) -> None:
        async with asyncio.timeout(PATIENT):
            await self.has_slot.wait()

    async def end(self) -> None:
        self.leave.set()
        await self.task


@contextlib.asynccontextmanager
async def held(slots: UploadSlots) -> AsyncIterator[Request]:
    request = Request(slots)
    await request.holding()
    yield request
    await request.end()


async def queued(slots: UploadSlots) -> Request:
    """A request that has joined the queue of its process."""
    before = slots.waiting
    request = Request(slots)
    async with asyncio.timeout(PATIENT):
        while slots.waiting == before:
            await asyncio.sleep(0)
    return request


def note(order: list[int], number: int, _: object) -> None:
    order.append(number)


async def test_all_processes_together_take_as_many_as_there_are(new_slots: NewSlots) -> None:
    here, there = new_slots(3, queue=0), new_slots(3, queue=0)
    async with held(here), held(there), held(here):
        for slots in (here, there):
            with pytest.raises(UploadCapacityExceeded):
                await Request(slots).task
    async with held(there), held(there), held(there):
        pass


async def test_who_finds_the_queue_full_is_refused_at_once_and_told_when_to_come_again(
    new_slots: NewSlots,
) -> None:
    slots = new_slots(queue=2)
    async with held(slots):
        waiters = [await queued(slots) for _ in range(2)]
        with pytest.raises(UploadCapacityExceeded) as refused:
            await Request(slots).task
        assert refused.value.retry_after == 2
        assert slots.waiting == 2
    for waiter in waiters:
        await waiter.end()


async def test_who_waits_in_vain_is_refused_and_leaves_the_queue(new_slots: NewSlots) -> None:
    slots = new_slots(seconds=0.05)
    async with held(slots):
        with pytest.raises(UploadCapacityExceeded):
            await Request(slots).task
        assert slots.waiting == 0
    async with held(slots):
        pass


async def test_waiters_of_all_processes_get_their_slots_in_the_order_they_came(new_slots: NewSlots) -> None:
    here, there = new_slots(), new_slots()
    order: list[int] = []
    async with held(here):
        waiters = [await queued(slots) for slots in (here, there, there, here, there, here, here)]
        for number, waiter in enumerate(waiters):
            waiter.leave.set()
            waiter.task.add_done_callback(partial(note, order, number))
    async with asyncio.timeout(PATIENT):
        await asyncio.gather(*(waiter.task for waiter in waiters))
    assert order == sorted(order)


async def test_who_comes_later_does_not_pass_those_who_wait_in_another_process(new_slots: NewSlots) -> None:
    here, there = new_slots(), new_slots()
    async with held(here) as holder:
        waiter = await queued(there)
        holder.leave.set()
        await holder.task
        late = await queued(here)
        await waiter.holding()
        assert not late.has_slot.is_set()
        await waiter.end()
        await late.end()


async def test_who_was_next_for_long_passes_nobody_with_the_slot_after(
    new_slots: NewSlots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots_module, "_POLL_SECONDS", 0.002)
    elsewhere, here, there = (new_slots(2) for _ in range(3))
    order: list[int] = []
    async with held(elsewhere) as one, held(elsewhere) as other:
        waiters = [await queued(here)]
        await polled(here, 2 * slots_module._OVERTAKING_POLLS)
        waiters += [await queued(there), await queued(here)]
        for number, waiter in enumerate(waiters):
            waiter.leave.set()
            waiter.task.add_done_callback(partial(note, order, number))
        # Both slots are free when anyone looks.
        one.leave.set()
        other.leave.set()
    async with asyncio.timeout(PATIENT):
        await asyncio.gather(*(waiter.task for waiter in waiters))
    assert order == [0, 1, 2]


async def test_a_process_that_stands_still_does_not_stop_the_others(
    new_slots: NewSlots, new_locks: Callable[[int], SlotLocks]
) -> None:
    still = new_locks(1)
    still.queue_since(0)
    async with held(new_slots()):
        pass


@pytest.mark.parametrize("moment", ["waiting", "given"])
async def test_a_waiter_that_is_cancelled_leaves_no_slot_taken(new_slots: NewSlots, moment: str) -> None:
    slots = new_slots()
    async with held(slots) as holder:
        first, second = await queued(slots), await queued(slots)
        if moment == "given":
            # It has its slot, and has not run since.
            holder.leave.set()
            while slots.waiting == 2:
                await asyncio.sleep(0)
            assert not first.has_slot.is_set()
        first.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first.task
    await second.holding()
    await second.end()
    assert slots.waiting == 0


async def test_a_request_that_fails_or_is_cancelled_frees_its_slot(new_slots: NewSlots) -> None:
    slots = new_slots(queue=0)
    with pytest.raises(LookupError):
        async with slots.taken():
            raise LookupError
    async with held(slots) as holder:
        holder.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holder.task
        holder.task = asyncio.create_task(asyncio.sleep(0))
    async with held(slots):
        pass


def polls(slots: UploadSlots) -> bool:
    return slots._timer is not None


async def polled(slots: UploadSlots, times: int) -> None:
    """Return when somebody who waits has been looked after so many times."""
    async with asyncio.timeout(PATIENT):
        for _ in range(times):
            timer = slots._timer
            while slots._timer is timer:
                await asyncio.sleep(0)


async def test_nothing_is_polled_while_nobody_waits(
    new_slots: NewSlots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots_module, "_POLL_SECONDS", 0.001)
    slots, other = new_slots(), new_slots()
    async with held(other):
        waiter = await queued(slots)
        assert polls(slots)
        waiter.task.cancel()
        await asyncio.wait([waiter.task])
        assert not polls(slots)
    async with held(slots):
        assert not polls(slots)


async def test_slot_and_decoders_share_the_patience_of_a_request(new_slots: NewSlots) -> None:
    slots = new_slots(seconds=1)

    async def request() -> float:
        async with slots.taken():
            began = asyncio.get_running_loop().time()
            with pytest.raises(UploadCapacityExceeded):
                async with waiting(PATIENT):
                    await asyncio.Event().wait()
            return asyncio.get_running_loop().time() - began

    async with held(slots) as holder:
        waiter = asyncio.create_task(request())
        # Half of its patience; a machine that stands still for nearly as long changes nothing.
        await asyncio.sleep(0.5)
        holder.leave.set()
        assert 0 < await waiter < 0.95


async def test_a_killed_process_frees_its_slots_at_once(new_slots: NewSlots, file: Path) -> None:
    slots = new_slots(2)
    with competitor(file, slots=2, tasks=4, seconds=60) as other:
        waiter = await queued(slots)
        other.kill()
        await waiter.holding()
        async with held(slots):
            await waiter.end()


async def test_a_child_of_a_killed_process_keeps_no_slot(new_slots: NewSlots, file: Path) -> None:
    """As a decoder does that is not dead yet."""
    code = (
        "import subprocess, sys; from pathlib import Path\n"
        "from chitram.platform.slot_locks import SlotLocks\n"
        "locks = SlotLocks(Path(sys.argv[1]), 1); assert locks.take() == 0\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=0, close_fds=False)\n"
        "print(child.pid, flush=True); child.wait()"
    )
    slots = new_slots()
    with subprocess.Popen(  # noqa: ASYNC220 - it says one line and is killed
        [sys.executable, "-c", code, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        child = os.pidfd_open(int(holder.stdout.readline()))
        waiter = await queued(slots)
        holder.kill()
        await waiter.holding()
        await waiter.end()
    os.close(child)


async def test_no_process_starves_another_that_has_fewer_waiters(file: Path) -> None:
    with (
        competitor(file, slots=2, tasks=40, seconds=0.002) as many,
        competitor(file, slots=2, tasks=4, seconds=0.002) as few,
    ):
        # Since both are there: one of them may have been alone for long.
        before = count_of(few), count_of(many)
        taken_by_many = 0
        async with asyncio.timeout(6 * PATIENT):
            while taken_by_many < 400:
                await asyncio.sleep(0.05)
                taken_by_many = count_of(many) - before[1]
        taken_by_few = count_of(few) - before[0]
    # In the order of arrival each task gets as much as any other.
    assert taken_by_few / 4 > taken_by_many / 40 / 3


@pytest.mark.parametrize("counts", [(1, 3), (3, 1)])
async def test_another_number_of_slots_after_a_restart_needs_no_repair(
    new_slots: NewSlots, counts: tuple[int, int]
) -> None:
    before, after = (new_slots(count, queue=0) for count in counts)
    async with held(before):
        pass
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(counts[1]):
            await stack.enter_async_context(held(after))
        with pytest.raises(UploadCapacityExceeded):
            await Request(after).task


def test_a_place_where_nothing_can_be_locked_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "upload-slots").mkdir()
    with pytest.raises(SettingsError, match=r"CHITRAM_DATA_DIR: upload slots .*upload-slots"):
        SlotLocks.from_settings(Settings(data_dir=str(tmp_path)))
    (tmp_path / "upload-slots").rmdir()
    SlotLocks.from_settings(Settings(data_dir=str(tmp_path))).close()
