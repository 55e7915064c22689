"""`chitram admin create-admin` and `chitram admin user`."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from chitram.accounts.adapters.passwords import Argon2Hasher
from chitram.main import admin
from chitram.platform.settings import PREFIX, Settings
from tests.support.database import NewUrl

EMAIL = "Root@Example.com"
PASSWORD = "four random words, that is"


@dataclass
class Terminal:
    """Runs commands in this process, over a database alone."""

    url: str
    capture: pytest.CaptureFixture[str]
    typing: Callable[[str], None]

    async def run(self, *arguments: str, typed: str = "") -> tuple[int, str, str]:
        """Exit status, output and complaints of a command; `typed` comes by standard input."""
        self.typing(typed)
        status = await asyncio.to_thread(admin.run, Settings(database_url=self.url), arguments)
        shown = self.capture.readouterr()
        return status, shown.out, shown.err

    async def rows(self, query: str) -> list[dict[str, Any]]:
        connection = await asyncpg.connect(self.url)
        try:
            return [dict(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    async def user(self) -> dict[str, Any]:
        (user,) = await self.rows("SELECT * FROM users")
        return user

    async def actions(self) -> list[tuple[str, Any]]:
        rows = await self.rows("SELECT * FROM audit_log ORDER BY at")
        assert {row["actor_id"] for row in rows} <= {None}
        return [(row["action"], row["details"]) for row in rows]


@pytest.fixture
async def terminal(
    new_url: NewUrl, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Terminal:
    return Terminal(
        await new_url(), capsys, lambda typed: monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    )


async def accepts(password_hash: str, password: str) -> bool:
    hasher = Argon2Hasher()
    try:
        return await hasher.verify(password_hash, password)
    finally:
        hasher.close()


async def test_an_administrator_is_made_with_a_password_from_standard_input(terminal: Terminal) -> None:
    status, output, complaints = await terminal.run("create-admin", EMAIL, typed=f"{PASSWORD}\nmore\n")
    assert (status, complaints) == (0, "")
    assert output == "Root@example.com is an administrator.\n"
    user = await terminal.user()
    assert (user["email"], user["email_key"]) == ("Root@example.com", "root@example.com")
    assert user["is_admin"]
    assert await accepts(user["password_hash"], PASSWORD)
    assert await terminal.actions() == [("user.create-admin", "{}")]


async def test_a_generated_password_is_told_once(terminal: Terminal) -> None:
    status, output, _ = await terminal.run("create-admin", EMAIL, "--generate")
    assert status == 0
    told = re.search(r"^password: (\S{24})$", output, re.MULTILINE)
    assert told
    assert await accepts((await terminal.user())["password_hash"], told[1])


@pytest.mark.parametrize("typed", ["", "\n", "short\n", "password1\n", "root@example.com\n"])
async def test_a_weak_password_makes_no_administrator(terminal: Terminal, typed: str) -> None:
    status, output, complaints = await terminal.run("create-admin", EMAIL, typed=typed)
    assert (status, output) == (1, "")
    assert complaints.startswith("chitram: ")
    assert await terminal.rows("SELECT * FROM users") == []


async def test_what_is_no_address_is_refused(terminal: Terminal) -> None:
    for command in ("create-admin", "user"):
        status, _, complaints = await terminal.run(command, "nobody", typed=PASSWORD)
        assert (status, "e-mail address is not valid" in complaints) == (1, True)


async def test_an_account_that_is_there_is_promoted_only_when_that_is_meant(terminal: Terminal) -> None:
    await terminal.run("create-admin", EMAIL, typed=PASSWORD)
    before = await terminal.user()
    assert (await terminal.run("user", EMAIL, "--demote", "--deactivate"))[0] == 0
    status, _, complaints = await terminal.run("create-admin", EMAIL, typed="another password")
    assert (status, "--promote" in complaints) == (1, True)
    assert not (await terminal.user())["is_admin"]
    status, output, _ = await terminal.run("create-admin", EMAIL.upper(), "--promote")
    assert (status, output) == (0, "ROOT@example.com is an administrator.\n")
    after = await terminal.user()
    assert (after["is_admin"], after["is_active"]) == (True, True)
    assert after["password_hash"] == before["password_hash"]
    assert [action for action, _ in await terminal.actions()] == ["user.create-admin"] + ["user.change"] * 2


async def test_an_account_is_shown_and_changed(terminal: Terminal) -> None:
    await terminal.run("create-admin", EMAIL, typed=PASSWORD)
    status, output, _ = await terminal.run("user", EMAIL)
    assert status == 0
    assert re.search(r"^administrator: yes$", output, re.MULTILINE)
    assert re.search(r"^bytes: +0 without a limit$", output, re.MULTILINE)
    assert [action for action, _ in await terminal.actions()] == ["user.create-admin"]
    _, output, _ = await terminal.run("user", EMAIL, "--quota-bytes", "1000", "--quota-images", "0")
    assert re.search(r"^bytes: +0 of 1000$", output, re.MULTILINE)
    assert re.search(r"^images: +0 without a limit$", output, re.MULTILINE)
    user = await terminal.user()
    assert (user["quota_bytes"], user["quota_images"]) == (1000, 0)
    await terminal.run("user", EMAIL, "--quota-bytes", "default")
    user = await terminal.user()
    assert (user["quota_bytes"], user["quota_images"]) == (None, 0)


@pytest.mark.parametrize("quota", ["-1", "many", str(2**63)])
async def test_a_quota_that_is_none_is_refused(terminal: Terminal, quota: str) -> None:
    with pytest.raises(SystemExit):
        await terminal.run("user", EMAIL, "--quota-bytes", quota)


async def test_an_account_that_is_not_there_is_said_to_be_missing(terminal: Terminal) -> None:
    status, _, complaints = await terminal.run("user", EMAIL, "--deactivate")
    assert (status, complaints) == (1, "chitram: There is no account with this e-mail address.\n")
    assert await terminal.actions() == []


async def test_another_password_is_set_and_the_worker_told_to_forget(terminal: Terminal) -> None:
    await terminal.run("create-admin", EMAIL, typed=PASSWORD)
    status, _, _ = await terminal.run("user", EMAIL, "--set-password", typed="another password\n")
    assert status == 0
    assert await accepts((await terminal.user())["password_hash"], "another password")
    assert [row["kind"] for row in await terminal.rows("SELECT kind FROM outbox")] == ["credentials.forget"]
    assert (await terminal.actions())[-1] == ("user.set-password", "{}")


async def test_no_command_takes_a_password_as_an_argument(terminal: Terminal) -> None:
    with pytest.raises(SystemExit):
        await terminal.run("create-admin", EMAIL, PASSWORD)
    with pytest.raises(SystemExit):
        await terminal.run("create-admin", EMAIL, "--password", PASSWORD)


async def at_a_terminal(new_url: str, data_dir: Path, *lines: str) -> tuple[int, str]:
    """Run `create-admin` at a terminal where these lines are typed; exit status and what it shows."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment |= {f"{PREFIX}DATABASE_URL": new_url, f"{PREFIX}DATA_DIR": str(data_dir)}
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chitram.main.cli", "admin", "create-admin", EMAIL),
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    try:
        async with asyncio.timeout(30):
            for line in lines:
                # Each is asked for: what is typed before would be echoed.
                asked = shown.count(b": ")
                while shown.count(b": ") == asked:
                    shown += await asyncio.to_thread(os.read, ours, 1000)
                os.write(ours, f"{line}\n".encode())
            status = await process.wait()
            shown += os.read(ours, 10_000)
    finally:
        if process.returncode is None:
            process.kill()
        os.close(ours)
    return status, shown.decode()


async def test_at_a_terminal_a_password_is_asked_for_twice_and_not_shown(
    terminal: Terminal, tmp_path: Path
) -> None:
    status, shown = await at_a_terminal(terminal.url, tmp_path, PASSWORD, "something else")
    assert status == 1
    assert "not the same" in shown
    status, shown = await at_a_terminal(terminal.url, tmp_path, PASSWORD, PASSWORD)
    assert status == 0
    assert "is an administrator" in shown
    assert PASSWORD not in shown
    assert await accepts((await terminal.user())["password_hash"], PASSWORD)
