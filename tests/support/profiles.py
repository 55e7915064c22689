"""ICC profiles built by hand (ICC.1:2001-04), and the arithmetic that they stand for."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_D50 = np.array([0.9642, 1.0, 0.8249])
_D65 = (0.3127, 0.3290)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_GRID = 17


def srgb_to_linear(values: Floats) -> Floats:
    """Undo sRGB's transfer function (IEC 61966-2-1); 0 to 1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(values: Floats) -> Floats:
    """Apply sRGB's transfer function; 0 to 1."""
    values = values.clip(0, 1)
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def to_xyz(primaries: tuple[tuple[float, float], ...], white: tuple[float, float]) -> Floats:
    """Matrix from linear RGB to XYZ, adapted from its white to D50 by Bradford."""
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    source = np.array([white[0] / white[1], 1.0, (1 - white[0] - white[1]) / white[1]])
    matrix = columns * np.linalg.solve(columns, source)
    cones = (_BRADFORD @ _D50) / (_BRADFORD @ source)
    return np.asarray(np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD @ matrix)


SRGB_TO_XYZ = to_xyz(((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)), _D65)


@dataclass(frozen=True)
class Space:
    """An RGB space: primaries, white, and its transfer functions from 0 to 1."""

    matrix: Floats
    decode: Callable[[Floats], Floats]
    encode: Callable[[Floats], Floats]

    def from_srgb(self, colours: Floats) -> Floats:
        """Say colours, which are given in sRGB, in the numbers of this space."""
        change = np.linalg.inv(self.matrix) @ SRGB_TO_XYZ
        return self.encode((srgb_to_linear(colours) @ change.T).clip(0, 1))

    def profile(self) -> bytes:
        """Describe the space by matrix and curves."""
        curve = _curve(self.decode)
        tags = {f"{name}XYZ": _xyz(self.matrix[:, at]) for at, name in enumerate("rgb")}
        return _profile("mntr", "RGB ", "XYZ ", {**tags, **{f"{name}TRC": curve for name in "rgb"}})


def _power(gamma: float) -> tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]:
    return (lambda values: values**gamma), (lambda values: values ** (1 / gamma))


DISPLAY_P3 = Space(
    to_xyz(((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), _D65), srgb_to_linear, linear_to_srgb
)
ADOBE_RGB = Space(to_xyz(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), _D65), *_power(563 / 256))
PROPHOTO = Space(
    to_xyz(((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), (0.3457, 0.3585)), *_power(1.8)
)


def grey_profile(gamma: float) -> bytes:
    """A profile of grey by a power law."""
    return _profile("mntr", "GRAY", "XYZ ", {"kTRC": _curve(lambda values: values**gamma)})


# How much of red, green and blue light each full ink takes away.
_INKS = np.array([[0.95, 0.35, 0.1], [0.2, 0.9, 0.3], [0.02, 0.15, 0.85], [1.0, 1.0, 1.0]])


def inks_to_srgb(inks: Floats) -> Floats:
    """What four inks of 0 to 1, printed over each other, look like by `ink_profile`."""
    light = np.prod(1 - inks[..., :, None] * _INKS, axis=-2)
    return linear_to_srgb(light)


def ink_profile() -> bytes:
    """A profile of CMYK by a table of colours, to be looked up in four dimensions."""
    steps = np.linspace(0, 1, _GRID)
    inks = np.stack(np.meshgrid(steps, steps, steps, steps, indexing="ij"), -1).reshape(-1, 4)
    xyz = srgb_to_linear(inks_to_srgb(inks)) @ SRGB_TO_XYZ.T / _D50
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    lab = np.stack(
        [116 * root[:, 1] - 16, 500 * (root[:, 0] - root[:, 1]), 200 * (root[:, 1] - root[:, 2])], -1
    )
    # 16 bits of Lab in version 2: 0xFF00 is 100, 0x8000 is 0.
    coded = (lab * [65280 / 100, 256, 256] + [0, 32768, 32768]).round().clip(0, 65535)
    identity = np.array([0, 65535], ">u2").tobytes()
    table = (
        b"mft2\0\0\0\0"
        + bytes([4, 3, _GRID, 0])
        + struct.pack(">9i", *(65536 * np.eye(3, dtype=int)).flatten())
        + struct.pack(">HH", 2, 2)
        + identity * 4
        + coded.astype(">u2").tobytes()
        + identity * 3
    )
    return _profile("prtr", "CMYK", "Lab ", {"A2B0": table})


def _curve(decode: Callable[[Floats], Floats]) -> bytes:
    points = (decode(np.linspace(0, 1, 4096)) * 65535).round()
    return b"curv\0\0\0\0" + struct.pack(">I", len(points)) + points.astype(">u2").tobytes()


def _xyz(values: Floats) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(each * 65536) for each in values))


def _profile(kind: str, space: str, connection: str, tags: dict[str, Any]) -> bytes:
    described = b"test\0"
    name = b"desc\0\0\0\0" + struct.pack(">I", len(described)) + described + bytes(78)
    tags = {"desc": name, "cprt": b"text\0\0\0\0none\0", "wtpt": _xyz(_D50), **tags}
    directory, bodies = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, body in tags.items():
        directory += tag.encode() + struct.pack(">II", start + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    size = start + len(bodies)
    head = struct.pack(">I4sI", size, b"\0\0\0\0", 0x02400000)
    head += kind.encode() + space.encode() + connection.encode() + bytes(12) + b"acsp"
    head += bytes(28) + struct.pack(">3i", *(round(each * 65536) for each in _D50)) + bytes(48)
    return head + directory + bodies
