"""Passwords: how they are hashed, and which are common."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from chitram.accounts.domain.errors import SignInCapacityExceeded
from chitram.accounts.domain.passwords import LEAST_CHARACTERS

_THREADS: Final = 2
# Each takes some 30 ms: whoever comes last waits about a second.
_MOST_WAITING: Final = 64
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32

T = TypeVar("T")

_log = structlog.get_logger("chitram.accounts")


class Argon2Hasher:
    """Argon2id (RFC 9106) in threads of its own, never on the event loop.

    The parameters are the least that OWASP's Password Storage Cheat Sheet advises: 19 MiB of memory,
    two iterations, one lane (https://cheatsheetseries.owasp.org). Two threads of a process hash at
    once, which takes 38 MiB, and 64 more passwords may wait.
    """

    def __init__(self, *, memory_kib: int = 19 * 1024, iterations: int = 2) -> None:
        self._argon2 = PasswordHasher(
            time_cost=iterations,
            memory_cost=memory_kib,
            parallelism=1,
            hash_len=_HASH_BYTES,
            salt_len=_SALT_BYTES,
            type=Type.ID,
        )
        # The hash of no password: what is random here has no preimage that anyone knows.
        self._nobodys = f"$argon2id$v=19$m={memory_kib},t={iterations},p=1$" + "$".join(
            base64.b64encode(secrets.token_bytes(size)).rstrip(b"=").decode()
            for size in (_SALT_BYTES, _HASH_BYTES)
        )
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="passwords")
        self._under_way = 0

    async def hash(self, password: str) -> str:
        return await self._in_thread(lambda: self._argon2.hash(_bytes(password)))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        matches = await self._in_thread(lambda: self._matches(password_hash or self._nobodys, password))
        return matches and password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        return self._argon2.check_needs_rehash(password_hash)

    def close(self) -> None:
        """Let the threads end; what they do is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _matches(self, password_hash: str, password: str) -> bool:
        try:
            return self._argon2.verify(password_hash, _bytes(password))
        except VerificationError:
            return False
        except InvalidHashError:
            _log.exception("an account has no proper password hash")
            return False

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._under_way >= _THREADS + _MOST_WAITING:
            raise SignInCapacityExceeded
        self._under_way += 1
        future = self._threads.submit(work)
        # Counted until the thread is done with it, also when whoever asked has gone.
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave))
        return await asyncio.wrap_future(future)

    def _leave(self) -> None:
        self._under_way -= 1


class RankedPasswords:
    """The 30,000 most frequent passwords of leaks, as zxcvbn ranks them, in small letters."""

    def __init__(self) -> None:
        # Only what makes passwords needs the list, which takes 20 ms and 10 MB to load.
        from zxcvbn.frequency_lists import FREQUENCY_LISTS  # noqa: PLC0415 - see above

        self._passwords = frozenset(
            password for password in FREQUENCY_LISTS["passwords"] if len(password) >= LEAST_CHARACTERS
        )

    def __contains__(self, password: object) -> bool:
        return password in self._passwords


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")
