"""What implements the ports of delivery, and those ports of images that reading is behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

from dishka import Provider, Scope, provide

from chitram.delivery.adapters.hand_over import SENDERS
from chitram.delivery.adapters.metadata_cache.entries import LocalEntries
from chitram.delivery.adapters.metadata_cache.images import CachedImages, DirectImages
from chitram.delivery.adapters.metadata_cache.invalidation import CacheInvalidation
from chitram.delivery.adapters.metadata_cache.statistics import Statistics
from chitram.delivery.adapters.metadata_cache.subscriber import Subscriber
from chitram.delivery.adapters.metadata_cache.values import SharedImages, shared_images
from chitram.delivery.adapters.object_files import ObjectImageFiles
from chitram.delivery.domain.links import SignedLinks
from chitram.delivery.entrypoints.image_bytes import ImageBytes
from chitram.delivery.entrypoints.jobs import PurgeImageJob
from chitram.delivery.entrypoints.oversight import Oversight
from chitram.delivery.entrypoints.reads import ReadEndpoints, Reads
from chitram.delivery.entrypoints.visible import VisibleImages
from chitram.delivery.ports import Delivery, ImageFiles, ImageReads
from chitram.images.public import ImageCaches, ImageQueries
from chitram.kernel.clock import Clock
from chitram.platform.http.limits import SendLimits
from chitram.platform.loops import beside, repeat
from chitram.platform.objects.registry import ObjectStores
from chitram.platform.settings import Settings
from chitram.platform.shared_cache.epoch import WatchedEpoch
from chitram.platform.signing import Signer
from chitram.platform.valkey import ValkeyGuard, ValkeyUnavailable, make_valkey

_LINK_PURPOSE = "image link"
_STATISTICS_SECONDS = 1.0
_SUBSCRIBER_SECONDS = 1.0


class DeliveryProvider(Provider):
    """Ports to adapters."""

    scope = Scope.APP
    files = provide(ObjectImageFiles, provides=ImageFiles)
    oversight = provide(Oversight)
    visible = provide(VisibleImages)
    endpoints = provide(ReadEndpoints)
    reads = provide(Reads)
    purge_image_job = provide(PurgeImageJob)

    @provide
    def delivery(self, settings: Settings, stores: ObjectStores) -> Delivery:
        return SENDERS[settings.file_delivery](stores)

    @provide
    def image_bytes(
        self,
        visible: VisibleImages,
        queries: ImageQueries,
        clock: Clock,
        files: ImageFiles,
        delivery: Delivery,
        limits: SendLimits,
    ) -> ImageBytes:
        latest = visible.over(DirectImages(queries))
        return ImageBytes(visible, latest, files, delivery, clock, limits)

    @provide
    def links(self, settings: Settings) -> SignedLinks:
        return SignedLinks(Signer(settings.secret_keys, _LINK_PURPOSE), settings.public_base_url.rstrip("/"))


class MetadataCacheProvider(Provider):
    """The metadata cache, and what keeps it right."""

    scope = Scope.APP
    caches = provide(CacheInvalidation, provides=ImageCaches)

    @provide
    def entries(self) -> LocalEntries:
        return LocalEntries()

    @provide
    def shared(self, guard: ValkeyGuard, settings: Settings) -> SharedImages:
        return shared_images(guard, settings.metadata_cache_seconds)

    @provide
    async def statistics(self, guard: ValkeyGuard) -> AsyncIterator[Statistics]:
        statistics = Statistics(guard)
        async with beside(repeat(_STATISTICS_SECONDS, "statistics", statistics.flush)):
            yield statistics
        with suppress(ValkeyUnavailable):
            await statistics.flush()

    @provide
    async def reads(
        self,
        settings: Settings,
        queries: ImageQueries,
        entries: LocalEntries,
        shared: SharedImages,
        epoch: WatchedEpoch,
        statistics: Statistics,
    ) -> AsyncIterator[ImageReads]:
        if not settings.metadata_cache_seconds:
            yield DirectImages(queries)
            return
        # A subscription is a connection of its own, for it waits for what may never come.
        client = make_valkey(settings, command_seconds=_SUBSCRIBER_SECONDS)
        async with beside(Subscriber(client, entries).run()):
            yield CachedImages(queries, entries, shared, epoch, statistics)
        await client.aclose()
