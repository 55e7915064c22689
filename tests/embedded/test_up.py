"""`chitram up` as a user meets it, with small stand-ins for the API and the worker."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from chitram.main.up import child_environment
from chitram.platform.embedded.directory import DataDirectory, Running
from chitram.platform.embedded.errors import StartError
from chitram.platform.embedded.stack import attached, check_database
from chitram.platform.embedded.valkey import answers
from chitram.platform.settings import Settings, load_settings
from tests.embedded.running import Up, answer, await_gone, command_line, gone, left_on


@pytest.fixture
def up(place: Path) -> Iterator[Up]:
    command = Up(place)
    yield command
    if command.process.poll() is None:
        command.send(signal.SIGTERM)
        command.end()


def test_everything_runs_and_one_line_says_where(up: Up, place: Path) -> None:
    address = up.until_ready()
    assert up.said[-1] == f"Chitram is ready at {address} - data in {place} - Ctrl-C stops it"
    assert [line.split(" s  ")[1] for line in up.said[:-1]] == [
        f"data directory {place}",
        "PostgreSQL, with a new database",
        "Valkey",
        "database schema",
        "API and worker",
    ]
    assert set(up.running) == {"PostgreSQL", "Valkey", "worker", "API"}


def test_children_get_every_setting_as_resolved(up: Up, place: Path) -> None:
    address = up.until_ready()
    given = answer(address)
    assert given["data_dir"] == str(place)
    assert given["http_port"] == int(address.rpartition(":")[2])
    with attached(Settings(data_dir=str(place))) as settings:
        assert (given["database_url"], given["valkey_url"]) == (settings.database_url, settings.valkey_url)
    assert stat.S_IMODE((place / "run" / "servers.json").stat().st_mode) == 0o600


def test_no_secret_is_on_a_command_line(up: Up, place: Path) -> None:
    up.until_ready()
    secrets = msgspec.to_builtins(DataDirectory(place).secrets()).values()
    shown = " ".join(command_line(pid) for pid in [up.process.pid, *up.running.values()])
    assert not [secret for secret in secrets if secret in shown]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_in_order(up: Up, place: Path, number: signal.Signals) -> None:
    up.until_ready()
    pidfds = await_gone(list(up.running.values()))
    up.send(number)
    assert up.end() == (0, "")
    assert gone(pidfds)
    assert left_on(place) == []
    assert (place / "stops").read_text().split() == ["api", "worker"]
    assert "database system is shut down" in (place / "logs" / "postgres.log").read_text()
    assert not (place / "run" / "servers.json").exists()


def test_a_second_run_continues_with_the_same_data(place: Path) -> None:
    for expected in ("PostgreSQL, with a new database", "PostgreSQL"):
        up = Up(place)
        up.until_ready()
        assert up.said[1].endswith(f" s  {expected}")
        up.send(signal.SIGINT)
        assert up.end()[0] == 0


def test_nobody_else_can_take_the_port_before_the_api_listens(place: Path) -> None:
    up = Up(place, "wary-api")
    up.until_ready()
    up.send(signal.SIGTERM)
    assert up.end() == (0, "")


def test_a_signal_before_it_is_ready_stops_it_too(up: Up, place: Path) -> None:
    up.until("PostgreSQL, with a new database")
    up.send(signal.SIGHUP)
    assert up.end() == (0, "")
    assert left_on(place) == []


def test_a_second_signal_hurries(place: Path) -> None:
    up = Up(place, "stubborn-api")
    up.until_ready()
    up.send(signal.SIGINT)
    up.until("stopping; once more to hurry")
    up.send(signal.SIGINT)
    assert up.end() == (0, "")
    assert left_on(place) == []


def test_nothing_outlives_a_kill_and_the_next_run_recovers(up: Up, place: Path) -> None:
    up.until_ready()
    pidfds = await_gone(list(up.running.values()))
    up.send(signal.SIGKILL)
    assert gone(pidfds)
    up.end()
    assert left_on(place) == []
    again = Up(place)
    again.until_ready()
    again.send(signal.SIGTERM)
    assert again.end() == (0, "")


def test_whatever_is_killed_comes_back_under_the_same_address(up: Up, place: Path) -> None:
    up.until_ready()
    for name in ("PostgreSQL", "Valkey", "worker", "API"):
        before = DataDirectory(place).published()
        assert before
        os.kill(before.processes[name], signal.SIGKILL)
        assert up.until("starting it again").endswith(f" s  {name} was ended by SIGKILL; starting it again.")
        after = restarted(up, before)
        assert (after.database_url, after.valkey_url) == (before.database_url, before.valkey_url)
        assert after.processes[name] != before.processes[name]
        wait_until_they_answer(after)
    up.send(signal.SIGTERM)
    assert up.end()[0] == 0
    assert left_on(place) == []


def restarted(up: Up, before: Running) -> Running:
    """What is written down once it is no longer `before`."""
    while (after := DataDirectory(up.place).published()) is None or after == before:
        assert up.process.poll() is None
    return after


def wait_until_they_answer(running: Running) -> None:
    """Return once both servers take connections."""
    while not answers(running.valkey_url):
        pass
    while True:
        try:
            return check_database(running.database_url)
        except StartError:
            continue


def test_servers_of_ones_own_are_used(place: Path, postgres_url: str, valkey_url: str) -> None:
    up = Up(place, DATABASE_URL=postgres_url, VALKEY_URL=valkey_url)
    given = answer(up.until_ready())
    assert (given["database_url"], given["valkey_url"]) == (postgres_url, valkey_url)
    assert set(up.running) == {"worker", "API"}
    up.send(signal.SIGTERM)
    assert up.end() == (0, "")


def test_the_environment_of_a_child_says_all_settings() -> None:
    settings = Settings(data_dir="/data", allowed_formats=("png",), decode_seconds=2.5, http_port=0)
    assert load_settings(child_environment(settings)) == settings


def test_the_environment_of_a_child_holds_no_other_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHITRAM_CONFIG", "/etc/chitram.toml")
    monkeypatch.setenv("PATH", "/bin")
    environment = child_environment(Settings())
    assert "CHITRAM_CONFIG" not in environment
    assert environment["PATH"] == "/bin"
