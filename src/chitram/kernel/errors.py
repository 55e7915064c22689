"""The error every layer raises: a stable code, a category, a message for people.

Categories carry no HTTP; `platform.http.errors` turns them into statuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar


class Category(StrEnum):
    """What kind of refusal an error is, whoever answers it."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    TIMEOUT = "timeout"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    UNPROCESSABLE = "unprocessable"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class ChitramError(Exception):
    """Base of every refusal a client may see.

    Args:
        message: one sentence for people; no storage key, SQL or stack trace.
        details: machine-readable facts; JSON values only.
        retry_after: seconds after which the same request may succeed, where that is known.
    """

    code: ClassVar[str] = "INTERNAL_ERROR"
    category: ClassVar[Category] = Category.INTERNAL
    default_message: ClassVar[str] = "The server could not answer this request."

    def __init__(
        self,
        message: str | None = None,
        *,
        details: Mapping[str, object] | None = None,
        retry_after: int | None = None,
    ) -> None:
        self.message = message or self.default_message
        self.details: Mapping[str, object] = details or {}
        self.retry_after = retry_after
        super().__init__(self.message)


class InvalidRequest(ChitramError):
    """The request itself is malformed or a parameter is out of range."""

    code = "INVALID_REQUEST"
    category = Category.INVALID
    default_message = "The request is not valid."


class FileTooLarge(ChitramError):
    """A body or a file in it is over its limit, `max_bytes`."""

    code = "FILE_TOO_LARGE"
    category = Category.TOO_LARGE
    default_message = "The file is larger than is accepted here."

    def __init__(self, max_bytes: int | None = None) -> None:
        super().__init__(details=None if max_bytes is None else {"max_bytes": max_bytes})


class DatabaseUnavailable(ChitramError):
    """The database did not answer; whether a commit under way took effect may be unknown."""

    code = "DATABASE_UNAVAILABLE"
    category = Category.UNAVAILABLE
    default_message = "The database does not answer. Try again shortly."

    def __init__(self, message: str | None = None, *, retry_after: int = 2) -> None:
        super().__init__(message, retry_after=retry_after)


class StorageUnavailable(ChitramError):
    """The object store or the spool cannot be read or written, or is full."""

    code = "STORAGE_UNAVAILABLE"
    category = Category.UNAVAILABLE
    default_message = "The image store does not answer. Try again shortly."

    def __init__(self, message: str | None = None, *, retry_after: int = 5) -> None:
        super().__init__(message, retry_after=retry_after)


class CommitUncertain(DatabaseUnavailable):
    """COMMIT was sent but its answer was lost: the change may or may not have happened.

    `timed_out` when it was waited for in vain, so that asking again would hardly fare better.
    """

    default_message = "The database went away while the change was being committed."

    def __init__(self, message: str | None = None, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out
