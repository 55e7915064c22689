"""What is limited, and what a limit answers."""

from __future__ import annotations

from typing import Protocol

import msgspec

from chitram.platform.settings import Settings

MICROSECONDS = 1_000_000
WINDOW_SECONDS = 60
# A household or an office shares an address, and each of its people renews a session in a while.
_REFRESHES = 6
# So that whoever has one address alone cannot use up what all strangers have together.
_STRANGERS = 3
# Steps of a direct upload after its beginning, which takes a unit of the uploads themselves.
_STEPS = 2

UPLOADS = "uploads"
# Putting and completing what was begun, which beginning alone would not bound.
UPLOAD_STEPS = "upload-steps"
READS = "reads"
LOGINS = "logins"
# Attempts of strangers to sign in to one account, wherever they are.
ACCOUNT_LOGINS = "account-logins"
REFRESHES = "refreshes"
_ALWAYS = {LOGINS, ACCOUNT_LOGINS}
_BY_ADDRESS = {LOGINS, REFRESHES}


class Policy(msgspec.Struct, frozen=True):
    """So many units a minute, all of which may come at once.

    Attributes:
        name: what clients and keys call it.
        limit: units a minute, at least 1.
        always: still holds, in each process by itself, when Valkey does not answer.
        by_address: counts by address also whoever says which account they are, for one may have many.
    """

    name: str
    limit: int
    always: bool = False
    by_address: bool = False

    def check_cost(self, cost: int) -> None:
        """Raises `ValueError` for units that could never be taken at once."""
        if not 1 <= cost <= self.limit:
            raise ValueError(f"{cost} units of {self.name}: can be 1 to {self.limit}")

    @property
    def interval(self) -> int:
        """Microseconds in which one unit comes back.

        A whole number, so that sums of it are exact; rounded up, so that a minute never has more
        than the limit.
        """
        return -(-WINDOW_SECONDS * MICROSECONDS // self.limit)


class Decision(msgspec.Struct, frozen=True):
    """What became of one request for units.

    Attributes:
        allowed: whether the units were taken; a refused request takes none.
        remaining: units that could be taken at once now.
        retry_after: seconds until the same request would be allowed; 0 when it was.
        effective_window: seconds within which no more than `remaining` can be taken.
    """

    allowed: bool
    remaining: int
    retry_after: float
    effective_window: float


class Limiter(Protocol):
    """Counts what clients take."""

    async def take(self, policy: Policy, client: str, cost: int = 1) -> Decision | None:
        """Take `cost` units, 1 to the limit, for a client. None when nothing can be said."""
        ...


def policies_from_settings(settings: Settings) -> dict[str, Policy | None]:
    """The policies by name; None for one that is off."""
    limits = {
        UPLOADS: settings.uploads_per_minute,
        UPLOAD_STEPS: _STEPS * settings.uploads_per_minute,
        READS: settings.reads_per_minute,
        LOGINS: settings.logins_per_minute,
        ACCOUNT_LOGINS: _STRANGERS * settings.logins_per_minute,
        REFRESHES: _REFRESHES * settings.logins_per_minute,
    }
    return {
        name: Policy(name, limit, always=name in _ALWAYS, by_address=name in _BY_ADDRESS) if limit else None
        for name, limit in limits.items()
    }
