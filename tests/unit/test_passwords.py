"""How passwords are hashed, and how much of that is done at once."""

from __future__ import annotations

import asyncio
import threading
import unicodedata
from collections.abc import Iterator

import pytest
from argon2 import extract_parameters
from argon2.low_level import Type
from structlog.testing import capture_logs

from chitram.accounts.adapters import passwords
from chitram.accounts.adapters.passwords import Argon2Hasher, RankedPasswords
from chitram.accounts.domain.errors import SignInCapacityExceeded
from chitram.accounts.domain.passwords import MOST_CHARACTERS, prepared


@pytest.fixture
def hasher() -> Iterator[Argon2Hasher]:
    made = Argon2Hasher()
    yield made
    made.close()


async def test_a_hash_is_argon2id_with_what_owasp_advises(hasher: Argon2Hasher) -> None:
    parameters = extract_parameters(await hasher.hash("a password"))
    assert (parameters.type, parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (
        Type.ID,
        19 * 1024,
        2,
        1,
    )


async def test_a_password_is_that_of_its_hash_and_no_other_is(hasher: Argon2Hasher) -> None:
    kept = await hasher.hash("a password")
    assert await hasher.verify(kept, "a password")
    assert not await hasher.verify(kept, "A password")
    assert not await hasher.verify(kept, "")
    assert await hasher.hash("a password") != kept


@pytest.mark.parametrize("password", ["", "\0\0", "x" * 20_000, "\U0001f511é", "\ud800"])
async def test_any_text_can_be_hashed(hasher: Argon2Hasher, password: str) -> None:
    assert await hasher.verify(await hasher.hash(password), password)


async def test_nobodys_hash_costs_the_same_and_no_password_is_right(
    hasher: Argon2Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is verified for an address without an account has the very same parameters."""
    verified: list[str] = []
    matches = hasher._matches

    def noted(kept: str, password: str) -> bool:
        verified.append(kept)
        return matches(kept, password)

    monkeypatch.setattr(hasher, "_matches", noted)
    kept = await hasher.hash("a password")
    assert not await hasher.verify(None, "a password")
    assert not await hasher.verify(kept, "another")
    nobodys, other = map(extract_parameters, verified)
    assert nobodys == other


async def test_a_right_answer_to_nobodys_hash_would_be_no_all_the_same(
    hasher: Argon2Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hasher, "_matches", lambda kept, password: True)
    assert not await hasher.verify(None, "a password")


async def test_a_hash_made_with_other_parameters_is_outdated_but_good(hasher: Argon2Hasher) -> None:
    older = Argon2Hasher(memory_kib=8 * 1024, iterations=1)
    kept = await older.hash("a password")
    older.close()
    assert hasher.is_outdated(kept)
    assert await hasher.verify(kept, "a password")
    assert not hasher.is_outdated(await hasher.hash("a password"))


async def test_a_row_without_a_proper_hash_lets_nobody_in_and_is_reported(hasher: Argon2Hasher) -> None:
    with capture_logs() as logged:
        assert not await hasher.verify("no hash at all", "a password")
    assert [line["log_level"] for line in logged] == ["error"]
    assert "a password" not in str(logged)


class Gate:
    """Keeps threads until it is opened, and counts those that came."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.inside = 0
        self.most = 0
        self._lock = threading.Lock()

    def __call__(self, kept: str, password: str) -> bool:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.opened.wait(10)
        with self._lock:
            self.inside -= 1
        return True


async def test_two_are_hashed_at_once_and_only_so_many_wait(
    hasher: Argon2Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_MOST_WAITING", 5)
    gate = Gate()
    monkeypatch.setattr(hasher, "_matches", gate)
    waiting = [asyncio.create_task(hasher.verify("kept", "a password")) for _ in range(7)]
    await asyncio.sleep(0)
    with pytest.raises(SignInCapacityExceeded) as refused:
        await hasher.verify("kept", "a password")
    assert refused.value.retry_after
    gate.opened.set()
    assert await asyncio.gather(*waiting) == [True] * 7
    assert gate.most == 2
    assert await hasher.verify("kept", "a password")


async def test_whoever_goes_away_leaves_their_place(
    hasher: Argon2Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_MOST_WAITING", 5)
    gate = Gate()
    monkeypatch.setattr(hasher, "_matches", gate)
    for _ in range(3):
        waiting = [asyncio.create_task(hasher.verify("kept", "a password")) for _ in range(5)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    gate.opened.set()
    async with asyncio.timeout(10):
        while hasher._under_way:
            await asyncio.sleep(0)


def test_the_list_has_what_is_tried_first() -> None:
    common = RankedPasswords()
    assert all(password in common for password in ("password", "12345678", "qwertyuiop", "football1"))
    assert "four random words" not in common
    assert len(common._passwords) > 10_000


def test_both_spellings_of_an_accent_are_one_password() -> None:
    assert prepared("cafe\u0301") == prepared("caf\u00e9") == "caf\u00e9"
    # Letters that merely look alike stay apart.
    assert prepared("\uff41bc") == "\uff41bc"


def test_the_longest_password_is_one_in_its_longest_spelling_too() -> None:
    """A Greek letter with three marks is four characters where it is one in NFC."""
    password = "\u1f82" * MOST_CHARACTERS
    spelled = unicodedata.normalize("NFD", password)
    assert len(spelled) == 4 * MOST_CHARACTERS
    assert prepared(spelled) == password
    assert len(prepared(spelled + "a")) == MOST_CHARACTERS + 1


def test_of_a_text_that_is_far_too_long_only_the_beginning_is_normalised() -> None:
    """All of it would hold up everybody: marks that are out of order take quadratic time."""
    text = "a" + "\u0301" * 4000 + "\u0327" * 4000
    begin = prepared(text)
    assert MOST_CHARACTERS < len(begin) <= 4 * MOST_CHARACTERS + 1
