"""What implements the ports of images."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

from dishka import Provider, Scope, provide
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from chitram.accounts.public import Authenticator
from chitram.images.adapters.answer_sealer import AesGcmSealer
from chitram.images.adapters.blob_store import ObjectBlobStore
from chitram.images.adapters.damage import LoggedDamage
from chitram.images.adapters.decoder.pool import DecoderPool
from chitram.images.adapters.postgres.catalogue import PostgresBlobCatalogue
from chitram.images.adapters.postgres.queries import (
    PostgresBlobPlaces,
    PostgresImageLists,
    PostgresImageQueries,
)
from chitram.images.adapters.postgres.statements import STATEMENTS
from chitram.images.adapters.postgres.traces import PostgresTraces
from chitram.images.adapters.postgres.unit_of_work import PostgresTransactions
from chitram.images.adapters.quarantine import ObjectQuarantine
from chitram.images.adapters.renderer.renderer import ChildRenderer
from chitram.images.domain.image import ImageFormat
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
from chitram.images.entrypoints.listing import ImageListing
from chitram.images.entrypoints.slots import UploadSlots
from chitram.images.entrypoints.upload_addresses import ADDRESS_PURPOSE, UploadAddresses
from chitram.images.entrypoints.uploaders import Uploaders
from chitram.images.ports import (
    AnswerSealer,
    BlobCatalogue,
    BlobStore,
    DamageReports,
    Inspector,
    Quarantine,
    Renderer,
    Transactions,
)
from chitram.images.public import BlobPlaces, ImageQueries
from chitram.images.queries import ImageLists, Traces
from chitram.images.use_cases.backfill_dimensions import BackfillDimensions
from chitram.images.use_cases.begin_upload import BeginUpload, DirectUploadRules
from chitram.images.use_cases.change_image import ChangeImage
from chitram.images.use_cases.clear_uploads import ClearUploads
from chitram.images.use_cases.complete_upload import CompleteUpload
from chitram.images.use_cases.copies import CopyRules
from chitram.images.use_cases.delete_blob import DeleteBlob
from chitram.images.use_cases.delete_image import DeleteImage
from chitram.images.use_cases.drop_copy import DropCopy
from chitram.images.use_cases.drop_renditions import DropRenditions
from chitram.images.use_cases.expire_images import ExpireImages
from chitram.images.use_cases.forget_keys import ForgetKeys
from chitram.images.use_cases.give_up_renditions import GiveUpRenditions
from chitram.images.use_cases.make_renditions import MakeRenditions
from chitram.images.use_cases.move_blobs import MoveBlobs
from chitram.images.use_cases.once import Once
from chitram.images.use_cases.optimise import Optimise
from chitram.images.use_cases.receive_upload import ReceiveUpload
from chitram.images.use_cases.reconcile_store import ReconcileStore
from chitram.images.use_cases.remake_renditions import RemakeRenditions
from chitram.images.use_cases.renditions import RenditionKeeper
from chitram.images.use_cases.scan_integrity import ScanIntegrity, ScanRules
from chitram.images.use_cases.upload_image import UploadImage, UploadRules
from chitram.images.use_cases.upload_once import UploadOnce
from chitram.images.use_cases.verify_blob import VerifyBlob
from chitram.images.use_cases.verify_image import VerifyImage
from chitram.kernel.clock import Clock
from chitram.platform.attempts import TAKE
from chitram.platform.database import Reader
from chitram.platform.objects.registry import ObjectStores
from chitram.platform.outbox import Relay
from chitram.platform.settings import (
    Settings,
    decoder_count,
    renderer_count,
    spool_dir,
    statement_connections,
)
from chitram.platform.signing import Signer
from chitram.platform.slot_locks import SlotLocks
from chitram.platform.statements import Statements

# How long a signed address of a store lives, and a row that was read before a move is still on its
# way to a cache.
_OUTDATED_SECONDS = 60 + 10


class ImagesAdapters(Provider):
    """Ports to adapters."""

    scope = Scope.APP

    @provide
    async def statements(self, settings: Settings) -> AsyncIterator[Statements]:
        statements = Statements(settings, [*STATEMENTS, TAKE], size=statement_connections(settings))
        yield statements
        await statements.aclose()

    @provide
    def transactions(
        self, sessions: async_sessionmaker[AsyncSession], relay: Relay, statements: Statements
    ) -> Transactions:
        return PostgresTransactions(sessions, relay, statements)

    @provide
    def catalogue(self, reader: Reader) -> BlobCatalogue:
        return PostgresBlobCatalogue(reader)

    @provide
    def queries(self, reader: Reader) -> ImageQueries:
        return PostgresImageQueries(reader)

    @provide
    def lists(self, reader: Reader) -> ImageLists:
        return PostgresImageLists(reader)

    @provide
    def places(self, reader: Reader) -> BlobPlaces:
        return PostgresBlobPlaces(reader)

    @provide
    def traces(self, reader: Reader) -> Traces:
        return PostgresTraces(reader)

    @provide
    def blobs(self, stores: ObjectStores, settings: Settings) -> BlobStore:
        return ObjectBlobStore(stores, spool_dir(settings))

    @provide
    def quarantine(self, stores: ObjectStores, settings: Settings) -> Quarantine:
        return ObjectQuarantine(stores, spool_dir(settings))

    damage = provide(LoggedDamage, provides=DamageReports)

    @provide
    def addresses(self, settings: Settings, clock: Clock) -> UploadAddresses:
        signer = Signer(settings.secret_keys, ADDRESS_PURPOSE)
        return UploadAddresses(signer, clock, settings.public_base_url)

    sealer = provide(AesGcmSealer, provides=AnswerSealer)

    @provide
    async def inspector(self, settings: Settings) -> AsyncIterator[Inspector]:
        pool = DecoderPool(
            size=decoder_count(settings),
            decode_seconds=settings.decode_seconds,
            memory_bytes=settings.decode_memory_bytes,
            wait_seconds=settings.upload_wait_seconds,
            max_pixels=settings.max_pixels,
            allowed_formats=settings.allowed_formats,
            metadata_policy=settings.metadata_policy,
        )
        await pool.start()
        yield pool
        await pool.aclose()

    @provide
    async def renderer(self, settings: Settings) -> AsyncIterator[Renderer]:
        renderer = ChildRenderer(
            size=renderer_count(settings),
            seconds=settings.render_seconds,
            memory_bytes=settings.render_memory_bytes,
        )
        yield renderer
        await renderer.aclose()

    @provide
    def slots(self, settings: Settings) -> Iterator[UploadSlots]:
        locks = SlotLocks.from_settings(settings)
        yield UploadSlots(locks, queue=settings.upload_queue, wait_seconds=settings.upload_wait_seconds)
        locks.close()

    listing = provide(ImageListing)

    # Of one request, as who makes it.
    @provide(scope=Scope.REQUEST)
    def uploaders(self, authenticator: Authenticator, slots: UploadSlots, settings: Settings) -> Uploaders:
        return Uploaders(authenticator, slots, anonymous=settings.anonymous_uploads)

    @provide
    def copies(self, settings: Settings) -> CopyRules:
        # What a cache says of a moved image is outdated until it is forgotten; the old object stays
        # as long, and as long again as a client may take to read it.
        seconds = settings.metadata_cache_seconds + settings.send_seconds + _OUTDATED_SECONDS
        drop_after = timedelta(seconds=seconds)
        grace = timedelta(seconds=settings.reconcile_grace_seconds)
        return CopyRules(drop_after=drop_after, longest_copy=min(grace, drop_after) / 2)

    @provide
    def rules(self, settings: Settings, copies: CopyRules) -> UploadRules:
        life = settings.delete_token_seconds
        return UploadRules(
            delete_token_life=timedelta(seconds=life) if life else None,
            newest_commit=timedelta(seconds=settings.reconcile_grace_seconds / 2),
            copies=copies,
        )

    @provide
    def scan_rules(self, settings: Settings) -> ScanRules:
        return ScanRules(settings.integrity_scan_nights)

    @provide
    def direct_upload_rules(self, settings: Settings) -> DirectUploadRules:
        return DirectUploadRules(
            life=timedelta(seconds=settings.direct_upload_seconds),
            max_bytes=settings.max_upload_bytes,
            read_seconds=settings.upload_body_seconds,
            formats=tuple(map(ImageFormat, settings.allowed_formats)),
        )


class ImagesUseCases(Provider):
    """What images can do."""

    scope = Scope.APP

    once = provide(Once)
    upload_image = provide(UploadImage)
    upload_once = provide(UploadOnce)
    forget_keys = provide(ForgetKeys)
    begin_upload = provide(BeginUpload)
    receive_upload = provide(ReceiveUpload)
    complete_upload = provide(CompleteUpload)
    clear_uploads = provide(ClearUploads)
    change_image = provide(ChangeImage)
    delete_image = provide(DeleteImage)
    delete_blob_job = provide(DeleteBlobJob)
    delete_blob = provide(DeleteBlob)
    drop_copy_job = provide(DropCopyJob)
    drop_copy = provide(DropCopy)
    make_renditions_job = provide(MakeRenditionsJob)
    remake_renditions_job = provide(RemakeRenditionsJob)
    reoptimise_job = provide(ReoptimiseJob)
    optimise_job = provide(OptimiseJob)
    clear_renditions_job = provide(ClearRenditionsJob)
    drop_renditions_job = provide(DropRenditionsJob)
    rendition_keeper = provide(RenditionKeeper)
    make_renditions = provide(MakeRenditions)
    optimise = provide(Optimise)
    give_up_renditions = provide(GiveUpRenditions)
    drop_renditions = provide(DropRenditions)
    move_blobs = provide(MoveBlobs)
    expire_images = provide(ExpireImages)
    backfill_dimensions = provide(BackfillDimensions)
    reconcile_store = provide(ReconcileStore)
    remake_renditions = provide(RemakeRenditions)
    scan_integrity = provide(ScanIntegrity)
    verify_blob = provide(VerifyBlob)
    verify_image = provide(VerifyImage)
