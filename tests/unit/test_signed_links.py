"""Signed links at the edges of their time, which no real clock meets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest

from chitram.delivery.domain.links import SignedLinks
from chitram.platform.signing import Signer

IMAGE = UUID("01a2049b-0efd-759e-a7ae-d831fb53e737")
END = datetime(2026, 11, 22, 12, tzinfo=UTC)
LINKS = SignedLinks(Signer(("a key that is only used by these tests",), "image link"), "https://a.example")


def opened(now: datetime, expires_at: datetime = END) -> datetime | None:
    url = httpx.URL(LINKS.make(IMAGE, "/file", expires_at))
    assert (url.host, url.path) == ("a.example", "/file")
    return LINKS.open_until(IMAGE, [url.params["expires"]], [url.params["signature"]], now)


@pytest.mark.parametrize(
    ("before_the_end", "is_open"),
    [
        (timedelta(days=7), True),
        (timedelta(microseconds=1), True),
        (timedelta(0), False),
        (-timedelta(microseconds=1), False),
    ],
)
def test_a_link_is_open_until_its_very_end(before_the_end: timedelta, *, is_open: bool) -> None:
    assert opened(END - before_the_end) == (END if is_open else None)


def test_a_link_ends_on_a_whole_second() -> None:
    assert opened(END - timedelta(hours=1), END + timedelta(milliseconds=999)) == END


@pytest.mark.parametrize("expires", ["9" * 10, "99999999999", "1" + "0" * 5000])
def test_an_end_in_a_far_future_is_no_error(expires: str) -> None:
    assert LINKS.open_until(IMAGE, [expires], ["x"], END) is None
