"""Embedded PostgreSQL: closed to strangers, and back after whatever was done to it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import asyncpg
import pytest

from chitram.platform.embedded import binaries, cluster
from chitram.platform.embedded import directory as directory_module
from chitram.platform.embedded.directory import DataDirectory
from chitram.platform.embedded.errors import StartError
from chitram.platform.embedded.postgres import Postgres
from chitram.platform.embedded.processes import marked
from chitram.platform.embedded.service import running
from tests.embedded.conftest import Mount, needs_root
from tests.embedded.running import command_line, environment


async def _query(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def query(url: str, statement: str) -> object:
    return asyncio.run(_query(url, statement))


def owner(directory: DataDirectory) -> int:
    return directory.cluster.stat().st_uid


def processes(directory: DataDirectory) -> list[int]:
    return list(marked(cluster.marker(directory.cluster), owner(directory)))


def refusal(postgres: Postgres) -> str:
    """The one line with which a start is refused."""
    with pytest.raises(StartError) as caught, running(postgres.service):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_server_is_made_as_the_application_needs_it(directory: DataDirectory) -> None:
    postgres = Postgres(directory)
    expected = {
        "server_encoding": "UTF8",
        "data_checksums": "on",
        "fsync": "on",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "max_connections": "100",
        "shared_buffers": "128MB",
    }
    with running(postgres.service):
        assert {name: query(postgres.superuser_url, f"SHOW {name}") for name in expected} == expected
        assert query(postgres.url, "SELECT datcollate FROM pg_database WHERE datname = 'chitram'") == "C"
        methods = "SELECT string_agg(DISTINCT auth_method, ' ') FROM pg_hba_file_rules"
        assert query(postgres.superuser_url, methods) == "scram-sha-256"


def test_the_application_owns_its_database_and_nothing_else(postgres: Postgres) -> None:
    with running(postgres.service):
        query(postgres.url, "CREATE TABLE kept (word text)")
        privileges = "SELECT rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = 'chitram'"
        assert query(postgres.url, privileges) is False
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            query(postgres.url, "COPY (SELECT 1) TO PROGRAM 'cat'")


def test_a_second_start_continues_with_the_same_data(postgres: Postgres, directory: DataDirectory) -> None:
    with running(postgres.service):
        query(postgres.url, "CREATE TABLE kept AS SELECT 'word' AS word")
    again = Postgres(directory, durable=False)
    with running(again.service):
        assert query(again.url, "SELECT word FROM kept") == "word"
    assert processes(directory) == []


@pytest.mark.parametrize("role", ["chitram", "postgres"])
def test_a_connection_without_the_right_password_is_refused(postgres: Postgres, role: str) -> None:
    with running(postgres.service):
        address = postgres.url.rpartition("@")[2]
        with pytest.raises(asyncpg.InvalidPasswordError):
            query(f"postgresql://{role}:wrong@{address}", "SELECT 1")
        with pytest.raises(asyncpg.InvalidPasswordError):
            # Nor from a file of whoever runs the tests.
            query(f"postgresql://{role}@{address}?passfile=/nowhere", "SELECT 1")


def test_passwords_show_nowhere(postgres: Postgres, directory: DataDirectory, place: Path) -> None:
    made = directory.secrets()
    words = [made.postgres, made.postgres_superuser, made.valkey]
    with running(postgres.service):
        shown = "\n".join(f"{command_line(pid)} {environment(pid)}" for pid in processes(directory))
    files = b"".join(
        path.read_bytes() for path in place.rglob("*") if path.is_file() and path.name != "secrets.json"
    )
    assert shown
    assert not [word for word in words if word in shown or word.encode() in files]


@needs_root
def test_root_runs_it_as_nobody_in_a_directory_of_its_own(
    postgres: Postgres, directory: DataDirectory
) -> None:
    with running(postgres.service):
        assert {Path(f"/proc/{pid}").owner() for pid in processes(directory)} == {"nobody"}
    assert stat.S_IMODE(directory.cluster.stat().st_mode) == 0o700
    assert directory.cluster.owner() == "nobody"


@needs_root
def test_root_runs_a_copy_when_nobody_cannot_reach_what_is_installed(
    directory: DataDirectory, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = binaries._runs
    monkeypatch.setattr(
        binaries, "_runs", lambda program, user: program.is_relative_to(place) and runs(program, user)
    )
    postgres = Postgres(directory, durable=False)
    with running(postgres.service) as process:
        assert Path(f"/proc/{process.pid}/exe").readlink().is_relative_to(place / "binaries")
        assert query(postgres.url, "SELECT 1") == 1


@needs_root
def test_a_user_without_a_name_is_told(directory: DataDirectory) -> None:
    os.seteuid(54_321)
    try:
        with pytest.raises(StartError, match="does not run as user 54321, who has no entry in /etc/passwd"):
            Postgres(directory)
    finally:
        os.seteuid(0)


@needs_root
def test_a_directory_below_a_closed_one_is_told(place: Path) -> None:
    place.chmod(0o700)
    closed = DataDirectory(place / "data")
    with closed.held(), pytest.raises(StartError, match=r"runs as nobody .* cannot enter"):
        Postgres(closed)


def test_it_comes_back_with_the_same_url_after_a_kill(postgres: Postgres) -> None:
    with running(postgres.service) as process:
        query(postgres.url, "CREATE TABLE kept AS SELECT 'word' AS word")
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
        with running(postgres.service):
            assert query(postgres.url, "SELECT word FROM kept") == "word"


def test_it_comes_back_while_an_orphan_still_works(postgres: Postgres, directory: DataDirectory) -> None:
    with asyncio.Runner() as runner, running(postgres.service) as process:
        busy = runner.run(asyncpg.connect(postgres.url))

        async def begin() -> asyncio.Task[str]:
            task: asyncio.Task[str] = asyncio.ensure_future(busy.execute("DO $$ BEGIN LOOP END LOOP; END $$"))
            at_work = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO %'"
            while not await _query(postgres.superuser_url, at_work):
                await asyncio.sleep(0)
            return task

        task = runner.run(begin())
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
        orphan = busy.get_server_pid()
        assert orphan in processes(directory)
        with running(postgres.service):
            assert orphan not in processes(directory)
            assert query(postgres.url, "SELECT 1") == 1
        busy.terminate()
        task.cancel()


def test_a_pid_file_that_names_a_stranger_is_no_obstacle(
    postgres: Postgres, directory: DataDirectory
) -> None:
    with running(postgres.service):
        left = (directory.cluster / "postmaster.pid").read_text().splitlines()
    stranger = subprocess.Popen(["/bin/sleep", "1000"], user=owner(directory))
    try:
        pid_file = directory.cluster / "postmaster.pid"
        pid_file.write_text("\n".join([str(stranger.pid), *left[1:]]) + "\n")
        os.chown(pid_file, owner(directory), -1)
        pid_file.chmod(0o600)
        with running(postgres.service):
            assert query(postgres.url, "SELECT 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_half_made_files_are_made_anew(postgres: Postgres, directory: DataDirectory, place: Path) -> None:
    unfinished = place / "postgres.new-a"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    with running(postgres.service):
        assert query(postgres.url, "SELECT 1") == 1
    assert not unfinished.exists()
    assert directory.cluster.exists()


def test_files_of_another_major_version_are_refused(postgres: Postgres, directory: DataDirectory) -> None:
    directory.cluster.mkdir()
    (directory.cluster / "PG_VERSION").write_text("17\n")
    message = refusal(postgres)
    assert "was made by PostgreSQL 17, but this is PostgreSQL 18" in message
    assert "CHITRAM_DATA_DIR" in message


def test_passwords_of_another_database_are_told(
    postgres: Postgres, directory: DataDirectory, place: Path
) -> None:
    with running(postgres.service):
        pass
    kept = directory.cluster.rename(place / "aside")
    (place / "secrets.json").unlink()
    directory.secrets()
    kept.rename(directory.cluster)
    message = refusal(Postgres(directory, durable=False))
    assert "was made with other passwords than those in secrets.json" in message
    assert processes(directory) == []


@needs_root
def test_a_disk_that_fills_up_while_it_is_made_is_told(
    place: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_module, "_FIRST_START_BYTES", 0)
    with mount(place, "size=20m"):
        place.chmod(0o711)
        directory = DataDirectory(place)
        with directory.held():
            assert "is full. Free some space" in refusal(Postgres(directory, durable=False))
        assert list(place.glob("postgres*")) == []


def test_what_else_goes_wrong_ends_with_the_log(postgres: Postgres, directory: DataDirectory) -> None:
    with running(postgres.service):
        pass
    shutil.rmtree(directory.cluster / "global")
    with pytest.raises(StartError) as caught, running(postgres.service):
        pass
    assert "PostgreSQL ended with status" in str(caught.value)
    assert "could not open file" in str(caught.value)
