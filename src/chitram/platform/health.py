"""Whether what we depend on answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum

import structlog

PROBE_SECONDS = 2.0
# A flood of health requests costs one probe a second.
REMEMBER_SECONDS = 1.0

_log = structlog.get_logger("chitram.health")


class Overall(StrEnum):
    """The sum of all probes."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class Health:
    """Probes each dependency, all at once, at most once a second.

    Args:
        required: probes without which nothing works; each returns, or raises.
        optional: probes of what the service can do without for a while.
    """

    def __init__(
        self,
        required: dict[str, Callable[[], Awaitable[object]]],
        optional: dict[str, Callable[[], Awaitable[object]]],
    ) -> None:
        self._probes = {**required, **optional}
        self._required = frozenset(required)
        self._found: dict[str, bool] = {}
        self._found_at = float("-inf")
        self._probing = asyncio.Lock()

    async def dependencies(self) -> dict[str, bool]:
        """Name each dependency and say whether it answers."""
        async with self._probing:
            if time.monotonic() - self._found_at > REMEMBER_SECONDS:
                answers = await asyncio.gather(*(self._probe(name) for name in self._probes))
                self._found = dict(zip(self._probes, answers, strict=True))
                self._found_at = time.monotonic()
        return self._found

    async def overall(self) -> Overall:
        """Sum the probes up."""
        down = {name for name, up in (await self.dependencies()).items() if not up}
        if down & self._required:
            return Overall.UNHEALTHY
        return Overall.DEGRADED if down else Overall.HEALTHY

    async def _probe(self, name: str) -> bool:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._probes[name]()
        except Exception as error:  # noqa: BLE001 - whatever a probe raises, its dependency is down
            _log.warning("dependency down", dependency=name, cause=type(error).__name__)
            return False
        return True
