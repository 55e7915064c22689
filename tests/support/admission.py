"""Other processes that compete for upload slots.

As a program, `python -m tests.support.admission FILE SLOTS COMPETITORS SECONDS`: that many tasks take
a slot, hold it for so long, and begin again, until standard input ends. It says `held` when as many
as can have taken one, and in the end how many times one was taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from chitram.images.entrypoints.slots import UploadSlots
from chitram.platform.slot_locks import SlotLocks

_ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def competitor(path: Path, slots: int, tasks: int, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Run the program above until the block ends; it has taken them all when the block begins."""
    command = (sys.executable, "-m", "tests.support.admission", path, slots, tasks, seconds)
    with subprocess.Popen(
        [str(each) for each in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def count_of(process: subprocess.Popen[str]) -> int:
    """How many times a competitor has taken a slot by now."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return int(process.stdout.readline())


async def _compete(path: Path, slots: int, tasks: int, seconds: float) -> None:
    shared = UploadSlots(SlotLocks(path, slots), queue=tasks, wait_seconds=60)
    taken = 0

    async def cycle() -> None:
        nonlocal taken
        while True:
            async with shared.taken():
                taken += 1
                if taken == min(tasks, slots):
                    sys.stdout.write("held\n")
                    sys.stdout.flush()
                await asyncio.sleep(seconds)

    running = [asyncio.create_task(cycle()) for _ in range(tasks)]
    while await asyncio.to_thread(sys.stdin.readline):
        sys.stdout.write(f"{taken}\n")
        sys.stdout.flush()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(_compete(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
