"""The errors that an examination ends in, made in one place and carried over the socket."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from chitram.images.adapters.decoder.protocol import Refused, Terms
from chitram.images.domain.errors import CorruptImage, ImageTooLarge, InvalidFileFormat
from chitram.images.domain.image import ImageFormat
from chitram.kernel.errors import ChitramError


def not_accepted(detected: str, allowed: Iterable[ImageFormat]) -> InvalidFileFormat:
    """Make the error that names what was found and what would have been accepted."""
    accepted = [each.media_type for each in allowed]
    return InvalidFileFormat(details={"detected": detected, "accepted": accepted})


def too_large(width: int, height: int, max_pixels: int) -> ImageTooLarge:
    """Make the error that tells size and limit in pixels."""
    return ImageTooLarge(details={"width": width, "height": height, "max_pixels": max_pixels})


def over_limits() -> CorruptImage:
    """Make the error for an image that took too long or too much memory."""
    return CorruptImage("The image could not be decoded within the limits.")


def as_message(
    error: InvalidFileFormat | ImageTooLarge | CorruptImage, *, cause: BaseException | None = None
) -> Refused:
    """Turn an error into what goes over the socket, for `as_error` to undo."""
    told = {"type": "refused", "code": error.code, "message": error.message[:200]}
    if cause is not None:
        told["unexpected"] = repr(cause)[:200]
    return msgspec.convert({**error.details, **told}, Refused)


def as_error(refused: Refused, terms: Terms) -> ChitramError:
    """Make the error that a decoder asks for; what it may not choose comes from the terms."""
    if refused.code == InvalidFileFormat.code:
        return not_accepted(refused.detected or "unknown", terms.allowed_formats)
    if refused.code == ImageTooLarge.code:
        return too_large(refused.width or 0, refused.height or 0, terms.max_pixels)
    return CorruptImage(refused.message)
