"""Commands beside the running stack find its servers, or bring their own for a while."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from chitram.platform.embedded import cluster
from chitram.platform.embedded.directory import DataDirectory, InUse, Running
from chitram.platform.embedded.errors import StartError
from chitram.platform.embedded.process import readable
from chitram.platform.embedded.processes import marked
from chitram.platform.embedded.stack import attached
from chitram.platform.embedded.valkey import answers
from chitram.platform.settings import Settings

STAND_INS = Path(__file__).with_name("stand_ins.py")


async def _select_one(url: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval("SELECT 1")
    finally:
        await connection.close()


@contextlib.contextmanager
def attaching(place: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds what `attached` gives, killed in the end; its first line are the URLs."""
    with subprocess.Popen(
        [sys.executable, STAND_INS, "attach"],
        env=os.environ | {"CHITRAM_DATA_DIR": str(place)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_servers_of_ones_own_are_left_alone(place: Path) -> None:
    given = Settings(data_dir=str(place), database_url="postgresql://db/x", valkey_url="valkey://cache/0")
    with attached(given) as settings:
        assert settings is given
    assert list(place.iterdir()) == []


def test_missing_servers_run_for_as_long_as_they_are_needed(place: Path) -> None:
    with attached(Settings(data_dir=str(place))) as settings:
        assert asyncio.run(_select_one(settings.database_url)) == 1
        assert answers(settings.valkey_url)
    with pytest.raises(OSError, match="Connect call failed"):
        asyncio.run(_select_one(settings.database_url))
    assert not answers(settings.valkey_url)


def test_only_what_is_missing_is_started(place: Path) -> None:
    with attached(Settings(data_dir=str(place), database_url="postgresql://db/x")) as settings:
        assert settings.database_url == "postgresql://db/x"
        assert answers(settings.valkey_url)
    assert not (place / "postgres").exists()


def test_the_servers_of_a_running_stack_are_used(place: Path) -> None:
    directory = DataDirectory(place)
    with attached(Settings(data_dir=str(place))) as first:
        directory.publish(Running(os.getpid(), first.database_url, first.valkey_url, {}))
        with attached(Settings(data_dir=str(place))) as second:
            assert second == first
        with attached(Settings(data_dir=str(place), database_url="postgresql://db/x")) as mixed:
            assert (mixed.database_url, mixed.valkey_url) == ("postgresql://db/x", first.valkey_url)
        assert asyncio.run(_select_one(first.database_url)) == 1


def test_a_stack_that_is_not_ready_is_told(directory: DataDirectory, place: Path) -> None:
    del directory
    with (
        pytest.raises(InUse, match=f"in use by process {os.getpid()}"),
        attached(Settings(data_dir=str(place))),
    ):
        pass


def test_a_stack_whose_database_is_away_is_told(directory: DataDirectory, place: Path) -> None:
    directory.publish(
        Running(os.getpid(), "postgresql://chitram:secret@127.0.0.1:1/chitram", "valkey://", {})
    )
    away = r"The database at 127\.0\.0\.1:1 does not answer"
    with pytest.raises(StartError, match=away) as caught, attached(Settings(data_dir=str(place))):
        pass
    assert "secret" not in str(caught.value)


def test_a_kill_while_the_database_is_made_leaves_a_place_to_start_again(place: Path) -> None:
    with attaching(place) as command:
        while not list(place.glob("postgres.new-*/PG_VERSION")):
            assert command.poll() is None
    assert not (place / "postgres").exists()
    with attached(Settings(data_dir=str(place))) as settings:
        assert asyncio.run(_select_one(settings.database_url)) == 1
    assert [path.name for path in place.glob("postgres*")] == ["postgres"]


def test_a_kill_of_everything_leaves_a_place_to_start_again(place: Path) -> None:
    with contextlib.ExitStack() as stack, attaching(place) as command:
        assert command.stdout
        assert command.stdout.readline()
        files = place / "postgres"
        pidfds = []
        for pid in marked(cluster.marker(files), files.stat().st_uid):
            # Some do not live for long, and all the others end when the first of them does.
            with contextlib.suppress(ProcessLookupError):
                pidfds.append(os.pidfd_open(pid))
                stack.callback(os.close, pidfds[-1])
        assert pidfds
        for pidfd in pidfds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        command.kill()
        assert all(readable([pidfd], 10) for pidfd in pidfds)
    assert (files / "postmaster.pid").exists()
    with attached(Settings(data_dir=str(place))) as settings:
        assert asyncio.run(_select_one(settings.database_url)) == 1
