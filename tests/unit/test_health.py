from __future__ import annotations

import asyncio

import pytest

from chitram.platform import health
from chitram.platform.health import Health, Overall


class Probe:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        if self.error:
            raise self.error


@pytest.mark.parametrize(
    ("required", "optional", "overall"),
    [
        (None, None, Overall.HEALTHY),
        (None, OSError(), Overall.DEGRADED),
        (OSError(), None, Overall.UNHEALTHY),
        (OSError(), OSError(), Overall.UNHEALTHY),
    ],
)
async def test_sums_up_what_answers(
    required: Exception | None, optional: Exception | None, overall: Overall
) -> None:
    probed = Health({"database": Probe(required)}, {"valkey": Probe(optional)})
    assert await probed.overall() is overall
    assert await probed.dependencies() == {"database": required is None, "valkey": optional is None}


async def test_a_probe_that_hangs_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.01)
    forever = asyncio.Event()
    probed = Health({"database": forever.wait}, {})
    assert await probed.overall() is Overall.UNHEALTHY


async def test_many_questions_at_once_probe_once() -> None:
    probe = Probe()
    probed = Health({"database": probe}, {})
    await asyncio.gather(*(probed.overall() for _ in range(20)))
    assert probe.calls == 1


async def test_an_old_answer_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Probe()
    probed = Health({"database": probe}, {})
    assert await probed.overall() is Overall.HEALTHY
    monkeypatch.setattr(health, "REMEMBER_SECONDS", 0.0)
    probe.error = OSError()
    assert await probed.overall() is Overall.UNHEALTHY
