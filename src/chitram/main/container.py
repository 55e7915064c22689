"""The container: which adapter stands behind which port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import structlog
from dishka import AsyncContainer, Provider, Scope, from_context, make_async_container, provide
from dishka.integrations.litestar import LitestarProvider
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from valkey.asyncio import Valkey

from chitram.accounts.adapters.session_cache import LeftToOutbox
from chitram.accounts.entrypoints.jobs import ForgetCredentialsJob
from chitram.accounts.ports import SessionCache
from chitram.accounts.providers import AccountsProvider, AccountsUseCases, CredentialsProvider
from chitram.delivery.entrypoints.jobs import PurgeImageJob
from chitram.delivery.providers import DeliveryProvider, MetadataCacheProvider
from chitram.images.entrypoints.jobs import (
    ClearRenditionsJob,
    DeleteBlobJob,
    DropCopyJob,
    DropRenditionsJob,
    MakeRenditionsJob,
    OptimiseJob,
    RemakeRenditionsJob,
    ReoptimiseJob,
)
from chitram.images.providers import ImagesAdapters, ImagesUseCases
from chitram.kernel.clock import Clock, SystemClock
from chitram.kernel.errors import StorageUnavailable
from chitram.platform.background import Job
from chitram.platform.database import Reader, make_engine, make_reader
from chitram.platform.health import Health
from chitram.platform.http.cursors import PURPOSE as CURSOR_PURPOSE
from chitram.platform.http.cursors import Cursors
from chitram.platform.http.limits import BodyLimits, SendLimits
from chitram.platform.http.rate_limits import Metering
from chitram.platform.loops import beside, repeat
from chitram.platform.networks import Networks
from chitram.platform.objects.registry import ObjectStores, stores_from_settings
from chitram.platform.outbox import LeftToSweep, Relay
from chitram.platform.queue import JobQueues, QueueRelay
from chitram.platform.rate_limits.limits import RateLimits
from chitram.platform.rate_limits.local import LocalLimiter
from chitram.platform.rate_limits.policy import policies_from_settings
from chitram.platform.rate_limits.shared import SharedLimiter
from chitram.platform.settings import Settings, spool_dir
from chitram.platform.shared_cache.epoch import (
    EPOCH_STATEMENTS,
    WATCH_SECONDS,
    KnownEpoch,
    PostgresEpochs,
    WatchedEpoch,
)
from chitram.platform.signing import Signer
from chitram.platform.statements import Statements
from chitram.platform.valkey import ValkeyGuard, make_valkey

# What the workers of this release can do; other work waits in the outbox for one that can.
JOBS: tuple[type[Job], ...] = (
    ClearRenditionsJob,
    DeleteBlobJob,
    DropCopyJob,
    DropRenditionsJob,
    ForgetCredentialsJob,
    MakeRenditionsJob,
    OptimiseJob,
    PurgeImageJob,
    RemakeRenditionsJob,
    ReoptimiseJob,
)
_FORM_FIELDS = 20
# A Valkey that hangs delays nobody longer, not even who asks for the state of everything.
_PING_SECONDS = 0.2

_log = structlog.get_logger("chitram")


def make_queues(client: Valkey) -> JobQueues:
    """The queues of all jobs."""
    return JobQueues(client, {job.kind: job.queue for job in JOBS})


class PlatformProvider(Provider):
    """Servers, stores and clocks."""

    scope = Scope.APP
    settings = from_context(Settings)
    clock = provide(SystemClock, provides=Clock)

    @provide
    async def sessions(self, settings: Settings) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
        engine = make_engine(settings)
        yield async_sessionmaker(engine, expire_on_commit=False, autoflush=False)
        await engine.dispose()

    @provide
    async def reader(self, settings: Settings) -> AsyncIterator[Reader]:
        pool = await make_reader(settings)
        yield Reader(pool)
        pool.terminate()

    @provide
    async def stores(self, settings: Settings) -> AsyncIterator[ObjectStores]:
        stores = stores_from_settings(settings)
        try:
            await stores.start()
        except StorageUnavailable as error:
            # It may come back. Until then health says so, uploads are refused and metadata is read.
            _log.warning("store unavailable", reason=error.message)
        starting = asyncio.create_task(stores.start_later())
        yield stores
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await stores.aclose()

    @provide
    async def valkey(self, settings: Settings) -> AsyncIterator[Valkey]:
        client = make_valkey(settings)
        yield client
        await client.aclose()

    @provide
    def guard(self, client: Valkey) -> ValkeyGuard:
        return ValkeyGuard(client)

    @provide
    async def epoch(self, settings: Settings) -> AsyncIterator[KnownEpoch]:
        statements = Statements(settings, EPOCH_STATEMENTS, size=1)
        yield KnownEpoch(PostgresEpochs(statements))
        await statements.aclose()

    @provide
    async def watched_epoch(self, epoch: KnownEpoch) -> AsyncIterator[WatchedEpoch]:
        async with beside(repeat(WATCH_SECONDS, "cache epoch", epoch.read)):
            yield WatchedEpoch(epoch)

    @provide
    def cursors(self, settings: Settings) -> Cursors:
        return Cursors(Signer(settings.secret_keys, CURSOR_PURPOSE))

    @provide
    async def rate_limits(self, settings: Settings, client: Valkey) -> AsyncIterator[RateLimits]:
        shared = SharedLimiter(client)
        await shared.connect()
        yield RateLimits(policies_from_settings(settings), shared, LocalLimiter())
        await shared.aclose()

    @provide
    def metering(self, limits: RateLimits, settings: Settings) -> Metering:
        return Metering(limits, Networks(settings.rate_limit_allow))

    @provide
    def queues(self, client: Valkey) -> JobQueues:
        return make_queues(client)

    @provide
    async def relay(self, queues: JobQueues, client: Valkey) -> AsyncIterator[Relay]:
        relay = QueueRelay(queues, ValkeyGuard(client))
        yield relay
        await relay.drain()

    @provide
    def health(self, reader: Reader, stores: ObjectStores, client: Valkey) -> Health:
        # Not the guard of the cache: what that has found is not asked again for a second.
        guard = ValkeyGuard(client, open_seconds=0)
        return Health(
            required={"database": reader.check, "storage": stores.primary.check},
            optional={"valkey": lambda: guard.call(lambda asked: asked.ping(), seconds=_PING_SECONDS)},
        )

    @provide
    def limits(self, settings: Settings) -> BodyLimits:
        return BodyLimits(
            file_bytes=settings.max_upload_bytes,
            batch_files=settings.max_batch_files,
            fields=_FORM_FIELDS,
            seconds=settings.upload_body_seconds,
            spool_directory=spool_dir(settings),
        )

    @provide
    def send_limits(self, settings: Settings) -> SendLimits:
        return SendLimits(settings.send_seconds)


class WithoutQueue(Provider):
    """For an administrator's command against servers of which it needs the database alone."""

    scope = Scope.APP
    relay = provide(LeftToSweep, provides=Relay)
    session_cache = provide(LeftToOutbox, provides=SessionCache)


def make_container(settings: Settings, *others: Provider) -> AsyncContainer:
    """Wire everything together; nothing is connected until it is asked for.

    Of two providers of one thing the later counts, so `others` may put something in its place.
    """
    return make_async_container(
        PlatformProvider(),
        AccountsProvider(),
        AccountsUseCases(),
        CredentialsProvider(),
        ImagesAdapters(),
        ImagesUseCases(),
        DeliveryProvider(),
        MetadataCacheProvider(),
        LitestarProvider(),
        *([] if settings.valkey_url else [WithoutQueue()]),
        *others,
        context={Settings: settings},
    )
