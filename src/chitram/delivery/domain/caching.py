"""How long others may keep an answer."""

from __future__ import annotations

from datetime import datetime

_YEAR_SECONDS = 31_536_000
_DAY_SECONDS = 86_400
_FOR_EVERYONE = frozenset({"public", "unlisted"})
_FOR_NOBODY = "private, no-store"


def cache_control(visibility: str, expires_at: datetime | None, now: datetime) -> str:
    """The Cache-Control of an image's bytes, which never change under their address.

    An image that expires may be kept for its remaining life. What is not known to be for everyone
    is kept by nobody.
    """
    if visibility not in _FOR_EVERYONE:
        return _FOR_NOBODY
    if expires_at is None:
        return f"public, max-age={_YEAR_SECONDS}, immutable"
    return f"public, max-age={_max_age(_YEAR_SECONDS, expires_at, now)}"


def rendition_cache_control(visibility: str, expires_at: datetime | None, now: datetime) -> str:
    """The Cache-Control of a rendition, in whose place a better recipe may put another."""
    if visibility not in _FOR_EVERYONE:
        return _FOR_NOBODY
    return f"public, max-age={_max_age(_DAY_SECONDS, expires_at, now)}"


def metadata_cache_control(visibility: str) -> str:
    """The Cache-Control of an image's metadata, which may change at any time."""
    return "no-cache" if visibility in _FOR_EVERYONE else _FOR_NOBODY


def _max_age(longest: int, expires_at: datetime | None, now: datetime) -> int:
    """Seconds: `longest`, or what is left of the image's life."""
    if expires_at is None:
        return longest
    return min(max(int((expires_at - now).total_seconds()), 0), longest)
