"""Embedded Valkey: closed to strangers, bounded, and back at once after a kill."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
import valkey as client_library

from chitram.platform.embedded import valkey as valkey_module
from chitram.platform.embedded.directory import DataDirectory
from chitram.platform.embedded.errors import StartError
from chitram.platform.embedded.service import running
from chitram.platform.embedded.valkey import Valkey, answers
from tests.embedded.conftest import needs_root
from tests.embedded.running import command_line, environment


@pytest.fixture
def valkey(directory: DataDirectory) -> Valkey:
    return Valkey(directory)


def test_it_answers_with_its_password_and_to_no_other(valkey: Valkey) -> None:
    with running(valkey.service):
        assert answers(valkey.url)
        scheme, _, address = valkey.url.partition("://")
        for stranger in (
            f"{scheme}://{address.partition('@')[2]}",
            f"{scheme}://:wrong@{address.partition('@')[2]}",
        ):
            client = client_library.Valkey.from_url(stranger)
            with client, pytest.raises(client_library.AuthenticationError):
                client.ping()
            assert not answers(stranger)
    assert not answers(valkey.url)


def test_it_keeps_nothing_on_disk_and_gives_way_to_the_queue(valkey: Valkey, place: Path) -> None:
    expected = {
        "bind": "127.0.0.1",
        "save": "",
        "appendonly": "no",
        "maxmemory": str(128 << 20),
        "maxmemory-policy": "volatile-lru",
    }
    before = set(place.rglob("*"))
    with running(valkey.service), client_library.Valkey.from_url(valkey.url, decode_responses=True) as client:
        assert {name: client.config_get(name)[name] for name in expected} == expected
    assert set(place.rglob("*")) - before == {place / "logs" / "valkey.log"}


def test_its_password_shows_nowhere(valkey: Valkey, directory: DataDirectory, place: Path) -> None:
    word = directory.secrets().valkey
    with running(valkey.service) as process:
        assert word not in f"{command_line(process.pid)} {environment(process.pid)}"
    assert word not in (place / "logs" / "valkey.log").read_text()


@needs_root
def test_root_runs_it_as_nobody(valkey: Valkey) -> None:
    with running(valkey.service) as process:
        assert Path(f"/proc/{process.pid}").owner() == "nobody"


def test_it_comes_back_empty_with_the_same_url_after_a_kill(valkey: Valkey) -> None:
    with running(valkey.service) as process:
        with client_library.Valkey.from_url(valkey.url) as client:
            client.set("word", "kept")
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
        with running(valkey.service), client_library.Valkey.from_url(valkey.url) as client:
            assert client.get("word") is None


def test_a_start_that_fails_ends_with_the_log(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey_module, "_ANSWER_SECONDS", 0.05)
    port = int(valkey.url.rpartition(":")[2].partition("/")[0])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(StartError) as caught, running(valkey.service):
            pass
    assert "Valkey ended with status 1 as it started." in str(caught.value)
    assert "Address already in use" in str(caught.value)
