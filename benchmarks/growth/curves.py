"""What becomes of a rate as something grows: points of a curve, and curves of a figure."""

from __future__ import annotations

from datetime import datetime

import msgspec

from benchmarks.machine import Machine
from benchmarks.model import Sample


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured at one size; `others` is what else was seen, by name with its unit."""

    at: int
    sample: Sample
    others: dict[str, float] = {}


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of request at growing sizes."""

    name: str
    points: list[Point]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """Curves over the same sizes.

    Attributes:
        key: short name, of its file too.
        over: what grows.
    """

    key: str
    title: str
    over: str
    curves: list[Curve]


class Filling(msgspec.Struct, frozen=True, kw_only=True):
    """How long rows in bulk took, and what they take up."""

    images: int
    seconds: float
    database_mib: float


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run has measured; `seconds` is how long it took."""

    machine: Machine
    began: datetime
    seconds: float
    fillings: list[Filling]
    figures: list[Figure]
