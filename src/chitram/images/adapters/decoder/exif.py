"""The one thing of Exif that is kept: orientation."""

from __future__ import annotations

import struct

_TAG = 0x0112
_SHORT = 3
_BYTE_ORDERS = {b"II*\x00": "<", b"MM\x00*": ">"}
# Byte order, offset of the directory, one entry (tag, type, count, value, padding), no next directory.
_MINIMAL = struct.Struct(">4sIHHHIHHI")


def read_orientation(tiff: bytes) -> int:
    """Return the orientation, 1 to 8, that a TIFF block tells; 1 when it tells none or is malformed."""
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, directory)
        for index in range(count):
            entry = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + 12 * index)
            if entry[:3] == (_TAG, _SHORT, 1):
                return entry[3] if 1 <= entry[3] <= 8 else 1  # noqa: PLR2004 - the values that Exif defines
    except struct.error:
        pass
    return 1


def minimal_tiff(orientation: int) -> bytes:
    """Write the smallest TIFF block that tells an orientation and nothing else."""
    return _MINIMAL.pack(b"MM\x00*", 8, 1, _TAG, _SHORT, 1, orientation, 0, 0)


def displayed(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Width and height after the rotation that an orientation asks for; 5 to 8 lie on their side."""
    return (height, width) if orientation >= 5 else (width, height)  # noqa: PLR2004 - see above
