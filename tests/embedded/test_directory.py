"""The data directory: one holder at a time, private, and refused with one line when unusable."""

from __future__ import annotations

import os
import pwd
import stat
import threading
from pathlib import Path

import pytest

from chitram.platform.embedded import directory as directory_module
from chitram.platform.embedded.directory import DataDirectory, InUse, Running
from chitram.platform.embedded.errors import StartError
from tests.embedded.conftest import Mount, needs_root

RUNNING = Running(os.getpid(), "postgresql://…", "valkey://…", {"PostgreSQL": 1})


def refusal(path: Path) -> str:
    """The one line with which a directory is refused."""
    with pytest.raises(StartError) as caught, DataDirectory(path).held():
        pass
    message = str(caught.value)
    assert "\n" not in message
    assert "CHITRAM_DATA_DIR" in message
    return message


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_second_holder_is_refused_with_the_process_of_the_first(place: Path) -> None:
    with DataDirectory(place).held():
        with pytest.raises(InUse) as caught, DataDirectory(place).held():
            pass
        assert f"in use by process {os.getpid()}" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_next_holder_may_come_when_the_first_has_gone(place: Path) -> None:
    for _ in range(2):
        with DataDirectory(place).held():
            pass


def test_it_is_made_with_the_directories_above_it(place: Path) -> None:
    with DataDirectory(place / "a" / "b").held():
        assert mode(place / "a" / "b") == (0o711 if os.geteuid() == 0 else 0o700)


def test_all_that_is_in_it_is_private(place: Path) -> None:
    directory = DataDirectory(place)
    with directory.held():
        directory.secrets()
        directory.publish(RUNNING)
        found = {str(path.relative_to(place)): mode(path) for path in place.rglob("*")}
    assert found == {
        "lock": 0o600,
        "secrets.json": 0o600,
        "logs": 0o700,
        "run": 0o700,
        "run/servers.json": 0o600,
    }


def test_the_mode_that_its_owner_gave_it_later_is_kept(place: Path) -> None:
    with DataDirectory(place).held():
        place.chmod(0o750)
    with DataDirectory(place).held():
        assert mode(place) == 0o750


def test_secrets_stay_the_same_and_differ_from_one_another(directory: DataDirectory) -> None:
    made = directory.secrets()
    assert made == directory.secrets()
    assert len({made.postgres, made.postgres_superuser, made.valkey}) == 3
    assert min(map(len, (made.postgres, made.postgres_superuser, made.valkey))) >= 32


@pytest.mark.parametrize("content", ["", "{", '{"postgres": 1}'])
def test_damaged_secrets_are_refused(directory: DataDirectory, place: Path, content: str) -> None:
    (place / "secrets.json").write_text(content)
    with pytest.raises(StartError, match=r"secrets\.json is damaged"):
        directory.secrets()


def test_secrets_are_not_made_anew_for_a_database_that_exists(directory: DataDirectory, place: Path) -> None:
    (place / "postgres").mkdir()
    with pytest.raises(StartError, match=r"secrets\.json is missing"):
        directory.secrets()


def test_what_runs_is_known_until_it_is_retracted(directory: DataDirectory) -> None:
    assert directory.published() is None
    directory.publish(RUNNING)
    assert directory.published() == RUNNING
    directory.retract()
    assert directory.published() is None


def test_what_a_killed_holder_published_is_not_believed(place: Path) -> None:
    directory = DataDirectory(place)
    with directory.held():
        directory.publish(Running(2**22, "", "", {}))
        assert directory.published() is None
    with directory.held():
        assert not (place / "run" / "servers.json").exists()


def test_a_file_in_the_way_is_told(place: Path) -> None:
    (place / "file").touch()
    assert f"{place / 'file'} is not a directory" in refusal(place / "file")
    assert "is not a directory" in refusal(place / "file" / "below")


def test_a_directory_of_another_user_is_told(place: Path) -> None:
    (place / "file").touch()
    place.chmod(0o500)
    user = os.geteuid()
    if user == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        assert f"{place} is not writable by" in refusal(place)
    finally:
        os.seteuid(user)
        place.chmod(0o700)


@needs_root
def test_a_read_only_disk_is_told(place: Path, mount: Mount) -> None:
    with mount(place, "ro"):
        assert f"{place} is on a read-only file system" in refusal(place)


@needs_root
def test_a_disk_with_too_little_space_is_told_before_anything_is_made(place: Path, mount: Mount) -> None:
    with mount(place, "size=20m"):
        assert f"The disk that holds {place} is full" in refusal(place)
        assert [path.name for path in place.iterdir()] == ["lock"]


@needs_root
def test_a_disk_that_is_full_is_told(place: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "_FIRST_START_BYTES", 0)
    with mount(place, "nr_inodes=1"):
        assert f"The disk that holds {place} is full" in refusal(place)


def test_who_waits_for_a_start_goes_on_when_it_ends(directory: DataDirectory, place: Path) -> None:
    with directory.starting() as starting:
        thread = threading.Thread(target=DataDirectory(place).await_started)
        thread.start()
        while thread.is_alive() and not waits_for_a_lock():
            pass
        assert thread.is_alive()
        starting.end()
        thread.join()
    DataDirectory(place).await_started()


def waits_for_a_lock() -> bool:
    """Whether a thread of this process does, as the kernel shows it."""
    lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return any(line[1] == "->" and str(os.getpid()) in line for line in lines)


def test_nobody_waits_where_nothing_is_started(place: Path) -> None:
    DataDirectory(place).await_started()
