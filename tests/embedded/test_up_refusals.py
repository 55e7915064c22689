"""What keeps `chitram up` from starting is told in one line that says what to do."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from chitram.platform.embedded.directory import DataDirectory
from tests.embedded.conftest import Mount, needs_root
from tests.embedded.running import Up, left_on


def refusal(place: Path, **variables: str) -> str:
    """The one line with which a start is refused."""
    status, errors = Up(place, **variables).end()
    assert status == 1
    assert errors.startswith("chitram: ")
    assert errors.count("\n") == 1
    return errors


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("broken-api", "chitram: API ended with status 3 as it started.\n"),
        ("broken-worker", "chitram: worker ended with status 4 as it started.\n"),
    ],
)
def test_what_does_not_start_ends_it(place: Path, flag: str, message: str) -> None:
    assert Up(place, flag).end() == (1, message)
    assert left_on(place) == []


def test_a_database_of_ones_own_that_does_not_answer_is_told(place: Path) -> None:
    message = refusal(place, DATABASE_URL="postgresql://chitram:secret@127.0.0.1:1/chitram")
    assert "The database at 127.0.0.1:1 does not answer" in message
    assert "CHITRAM_DATABASE_URL" in message
    assert "secret" not in message


def test_a_busy_port_is_told(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = refusal(place, HTTP_PORT=str(port))
    assert f"Port {port} on 127.0.0.1 is in use" in message
    assert "CHITRAM_HTTP_PORT" in message


def test_a_host_of_another_machine_is_told(place: Path) -> None:
    assert "CHITRAM_HTTP_HOST" in refusal(place, HTTP_HOST="192.0.2.1")
    assert "CHITRAM_HTTP_HOST" in refusal(place, HTTP_HOST="no such host")


def test_a_data_directory_in_use_is_told(directory: DataDirectory, place: Path) -> None:
    del directory
    assert f"{place} is in use by process {os.getpid()}" in refusal(place)


def test_a_file_in_place_of_the_data_directory_is_told(place: Path) -> None:
    (place / "file").touch()
    assert "is not a directory" in refusal(place / "file")


def test_a_database_of_another_major_version_is_told(place: Path) -> None:
    directory = DataDirectory(place)
    with directory.held():
        directory.secrets()
    directory.cluster.mkdir()
    (directory.cluster / "PG_VERSION").write_text("17\n")
    assert "was made by PostgreSQL 17" in refusal(place)


@needs_root
@pytest.mark.parametrize(("options", "words"), [("ro", "read-only"), ("size=20m", "is full")])
def test_a_disk_that_takes_nothing_is_told(place: Path, mount: Mount, options: str, words: str) -> None:
    with mount(place, options):
        assert words in refusal(place)
