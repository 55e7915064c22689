"""The options that come beside a file, in form fields or the query."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from chitram.images.domain.image import Visibility
from chitram.kernel.errors import InvalidRequest


class UploadOptions(msgspec.Struct, frozen=True):
    """Who may see the image, and after how many seconds it goes."""

    visibility: Visibility = Visibility.UNLISTED
    expires_in: int | None = None


def options_from(fields: Mapping[str, str | None]) -> UploadOptions:
    """Read the options of an upload. Raises `InvalidRequest` naming the field."""
    return UploadOptions(_visibility(fields.get("visibility")), _expires_in(fields.get("expires_in")))


def _visibility(text: str | None) -> Visibility:
    if not text:
        return Visibility.UNLISTED
    try:
        return Visibility(text)
    except ValueError:
        raise InvalidRequest(
            "visibility is public, unlisted or private.", details={"field": "visibility"}
        ) from None


def _expires_in(text: str | None) -> int | None:
    if not text:
        return None
    # Twelve digits are more than any limit here, and int() of a million would take its time.
    if not (text.isascii() and text.isdigit() and len(text) <= 12):  # noqa: PLR2004
        raise InvalidRequest("expires_in is a whole number of seconds.", details={"field": "expires_in"})
    return int(text)
