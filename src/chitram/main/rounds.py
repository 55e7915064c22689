"""What is done by the clock, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from dishka import AsyncContainer

from chitram.accounts.use_cases.clear_sessions import ClearSessions
from chitram.images.use_cases.backfill_dimensions import BackfillDimensions
from chitram.images.use_cases.clear_uploads import ClearUploads
from chitram.images.use_cases.expire_images import ExpireImages
from chitram.images.use_cases.forget_keys import ForgetKeys
from chitram.images.use_cases.reconcile_store import ReconcileCommand, ReconcileStore
from chitram.images.use_cases.remake_renditions import RemakeRenditions
from chitram.images.use_cases.scan_integrity import ScanIntegrity
from chitram.platform.schedule import Round
from chitram.platform.settings import Settings
from chitram.platform.sweep import Sweep

SWEEP = timedelta(seconds=2)
EXPIRE = timedelta(seconds=10)
CLEAR = timedelta(minutes=1)
FORGET = timedelta(minutes=10)
SESSIONS = timedelta(minutes=10)
REMAKE = timedelta(minutes=1)
BACKFILL = timedelta(hours=1)


async def make_rounds(container: AsyncContainer, sweep: Sweep) -> Sequence[Round]:
    """All rounds of a worker."""
    settings = await container.get(Settings)
    reconcile = await container.get(ReconcileStore)
    grace = timedelta(seconds=settings.reconcile_grace_seconds)
    return [
        Round("sweep", sweep, every=SWEEP),
        Round("expire", await container.get(ExpireImages), every=EXPIRE),
        Round("uploads", await container.get(ClearUploads), every=CLEAR),
        Round("idempotency keys", await container.get(ForgetKeys), every=FORGET),
        Round("sessions", await container.get(ClearSessions), every=SESSIONS),
        Round("backfill", await container.get(BackfillDimensions), every=BACKFILL),
        Round("remake", await container.get(RemakeRenditions), every=REMAKE),
        Round("integrity", await container.get(ScanIntegrity), hour=settings.upkeep_hour),
        Round("reconcile", lambda: reconcile(ReconcileCommand(grace, apply=True)), hour=settings.upkeep_hour),
    ]
