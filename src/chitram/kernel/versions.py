"""Versions of what is cached, as those who change it tell the caches of them."""

from __future__ import annotations

from typing import Final

# Instead of the oldest version that may be shown: it is gone, no version may be.
GONE: Final = 1 << 31
# Likewise: it may be gone or changed, or not.
UNKNOWN: Final = 0
