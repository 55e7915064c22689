"""What was done with a sort of values of the shared cache."""

from __future__ import annotations

import msgspec


class Tally(msgspec.Struct, kw_only=True):
    """Counts of one process.

    Attributes:
        loads: statements on the database; several requests may share one.
        waits: loads that waited for the lease of another.
        refused_fills: values that came too late to be remembered.
        invalidations: keys that were told to be outdated.
        epoch_raises: invalidations that Valkey did not confirm in time.
        valkey_failures: times that something was done without Valkey.
    """

    loads: int = 0
    waits: int = 0
    refused_fills: int = 0
    invalidations: int = 0
    epoch_raises: int = 0
    valkey_failures: int = 0
