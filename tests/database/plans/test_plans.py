"""How PostgreSQL does what is asked most: by an index, looking at hardly more than it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from chitram.accounts.adapters.postgres.audit import PostgresAuditQueries
from chitram.accounts.adapters.postgres.credential_queries import (
    PostgresApiKeyLists,
    PostgresApiKeyQueries,
    PostgresCredentialQueries,
)
from chitram.accounts.adapters.postgres.key_uses import PostgresKeyUses
from chitram.accounts.adapters.postgres.queries import PostgresAccountQueries, PostgresSessionQueries
from chitram.accounts.adapters.postgres.quotas import PostgresQuotas
from chitram.accounts.domain.user import Email
from chitram.images.adapters.postgres.queries import PostgresBlobPlaces, PostgresImageLists
from chitram.images.adapters.postgres.traces import PostgresTraces
from chitram.images.domain.rendition import RenditionSort
from chitram.images.queries import ListedImages
from chitram.platform.attempts import Attempts, take, under_way
from chitram.platform.dead_letters import DeadLetters
from chitram.platform.owed import owed_to
from tests.database.plans.conftest import Ask, Asked, plans_of
from tests.support.crowd import POPULAR, RARE_WORK
from tests.support.rendering import made_of

FIRST = UUID(int=0)
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Expected:
    """What a statement may use: no other indexes, and of so many rows a look."""

    ask: Ask
    indexes: set[str]
    rows: int


CASES: dict[str, Expected] = {}


def by(*indexes: str, rows: int = 10) -> Callable[[Ask], Ask]:
    """Expect of all that a function asks that it is done by these indexes."""

    def remember(ask: Ask) -> Ask:
        CASES[ask.__name__] = Expected(ask, {*indexes}, rows)
        return ask

    return remember


@by("pk_images", "pk_blobs", "pk_renditions")
async def the_metadata_of_an_image(asked: Asked) -> None:
    assert await asked.database.queries.find(asked.there.image_id)


@by("pk_blobs")
async def where_the_object_of_a_blob_is(asked: Asked) -> None:
    assert await PostgresBlobPlaces(asked.database.reader).shard_of(asked.there.blob_id)


@by("uq_blobs_live_sha256")
async def the_blob_of_the_same_content(asked: Asked) -> None:
    assert await asked.database.transactions.find_live(asked.there.sha256)


@by("pk_blobs", "pk_images")
async def an_image_and_its_blob_to_be_changed(asked: Asked) -> None:
    async with asked.database.transactions.begin() as transaction:
        assert await transaction.blobs.lock(asked.there.blob_id)
        image = await transaction.images.lock(asked.there.image_id)
        assert image
        await transaction.images.update(image)
        await transaction.blobs.mark_deleting(asked.there.blob_id)


@by("ix_images_blob_id")
async def whether_a_blob_is_shown(asked: Asked) -> None:
    async with asked.database.transactions.begin() as transaction:
        assert await transaction.images.is_shown(asked.there.blob_id)
        assert await transaction.images.is_shown(asked.there.popular_id)


@by("ix_images_blob_id", "pk_images", rows=500)
async def the_images_of_a_changed_blob(asked: Asked) -> None:
    async with asked.database.transactions.begin() as transaction:
        assert len(await transaction.images.touch(asked.there.blob_id, 500)) == 1
        assert len(await transaction.images.touch(asked.there.popular_id, 50)) == 50


@by("pk_images", "ix_images_blob_id")
async def an_image_taken_away(asked: Asked) -> None:
    async with asked.database.transactions.begin() as transaction:
        assert await transaction.images.remove(asked.there.image_id)
        assert not await transaction.images.is_shown(asked.there.blob_id)


@by("pk_renditions")
async def the_renditions_of_a_blob(asked: Asked) -> None:
    async with asked.database.transactions.begin() as transaction:
        assert len(await transaction.renditions.of(asked.there.blob_id)) == 3


@by("ix_images_expires_at", rows=100)
async def images_whose_time_is_up(asked: Asked) -> None:
    async with asked.database.transactions.begin() as transaction:
        assert len(await transaction.images.expired(asked.there.now + HOUR, 100)) == 100


@by("ix_blobs_verified_at", rows=100)
async def a_part_of_the_integrity_scan(asked: Asked) -> None:
    async with asked.database.transactions.begin() as transaction:
        assert len(await transaction.blobs.least_verified(["local", "other"], 100)) == 100


@by("ix_blobs_thumbnails_recipe", "ix_blobs_optimised_recipe", "pk_blobs", rows=700)
async def blobs_whose_renditions_are_to_be_made_again(asked: Asked) -> None:
    async with asked.database.transactions.begin() as transaction:
        found = await transaction.blobs.outdated(FIRST, 200)
        assert len(found) == 200
        assert await transaction.blobs.outdated(found[-1].id, 200)


@by("ix_blobs_without_dimensions")
async def blobs_without_dimensions(asked: Asked) -> None:
    async with asked.database.transactions.begin() as transaction:
        assert not await transaction.blobs.without_dimensions(FIRST, 100)


@by("ix_blobs_damaged_at", "ix_images_blob_id", rows=POPULAR)
async def damaged_blobs(asked: Asked) -> None:
    assert len(await PostgresTraces(asked.database.reader).damaged(100)) == 1


@by("pk_blobs", "pk_renditions", rows=300)
async def what_is_known_of_listed_objects(asked: Asked) -> None:
    catalogue, ids = asked.database.catalogue, [asked.there.blob_id, *(uuid4() for _ in range(500))]
    assert await catalogue.known(ids)
    assert await catalogue.renditions(ids)
    assert await catalogue.is_live(asked.there.blob_id)


@by("pk_blobs", rows=1000)
async def a_batch_of_all_blobs(asked: Asked) -> None:
    async for _ in asked.database.catalogue.live():
        break


@by("ix_blobs_shard_id", "pk_blobs", rows=1000)
async def a_batch_of_the_blobs_of_a_store(asked: Asked) -> None:
    async for _ in asked.database.catalogue.held_by("local"):
        break


@by("pk_uploads")
async def a_direct_upload(asked: Asked) -> None:
    async with asked.database.transactions.begin() as transaction:
        assert await transaction.uploads.get(asked.there.upload_id)
        assert await transaction.uploads.complete(asked.there.upload_id, asked.there.image_id)
        assert await transaction.uploads.known([asked.there.upload_id, uuid4()])


@by("ix_uploads_expires_at", "pk_uploads", rows=100)
async def direct_uploads_whose_time_is_up(asked: Asked) -> None:
    async with asked.database.transactions.begin() as transaction:
        ended = await transaction.uploads.ended(asked.there.now, FIRST, 50)
        assert len(ended) == 50
        assert await transaction.uploads.ended(asked.there.now, ended[-1].id, 50)
        await transaction.uploads.remove(ended[0].id)


@by("pk_idempotency_keys")
async def a_claim_of_an_idempotency_key(asked: Asked) -> None:
    async with asked.database.transactions.begin() as transaction:
        for key_hash in (asked.there.idempotency_hash, bytes(32)):
            await transaction.keys.claim(key_hash, b"", uuid4(), lease_for=HOUR, life=HOUR)


@by("pk_idempotency_keys")
async def an_idempotency_key(asked: Asked) -> None:
    key_hash, lease = asked.there.idempotency_hash, uuid4()
    async with asked.database.transactions.begin() as transaction:
        keys = transaction.keys
        assert await keys.get(key_hash)
        await keys.renew(key_hash, lease, lease_for=HOUR)
        await keys.settle(key_hash, lease, uuid4(), b"", life=HOUR)
        await keys.free(key_hash, lease)


@by("ix_idempotency_keys_image_id")
async def the_idempotency_key_of_a_deleted_image(asked: Asked) -> None:
    async with asked.database.transactions.begin() as transaction:
        await transaction.keys.forget(asked.there.image_id)


@by("ix_idempotency_keys_expires_at", "pk_idempotency_keys", rows=100)
async def idempotency_keys_whose_time_is_up(asked: Asked) -> None:
    async with asked.database.transactions.begin() as transaction:
        assert await transaction.keys.forget_expired(5) == 5


async def listed(asked: Asked, limit: int = 21, **wanted: Any) -> None:
    owner_id = wanted.pop("owner_id", asked.there.owner_id)
    lists = PostgresImageLists(asked.database.reader)
    found = await lists.newest(ListedImages(owner_id=owner_id, now=asked.there.now, **wanted), limit)
    assert len(found.images) == limit


_LIST = ("ix_images_owner_id_id", "pk_blobs", "pk_renditions")
_LIST_ALL = ("pk_images", "pk_blobs", "pk_renditions")
_PAGE = 21 * 3


@by(*_LIST, rows=_PAGE)
async def a_first_page(asked: Asked) -> None:
    await listed(asked)


@by(*_LIST, rows=_PAGE)
async def a_page_far_below(asked: Asked) -> None:
    await listed(asked, before=asked.there.old_id)


@by(*_LIST, rows=_PAGE)
async def a_page_of_a_time(asked: Asked) -> None:
    after, before = asked.there.old_at - timedelta(minutes=5), asked.there.old_at
    await listed(asked, created_after=after, created_before=before)


@by(*_LIST, rows=5000)
async def a_page_of_a_type(asked: Asked) -> None:
    await listed(asked, content_type="image/png")


@by(*_LIST, rows=5000)
async def a_page_of_a_visibility(asked: Asked) -> None:
    await listed(asked, visibility="public")


@by(*_LIST_ALL, rows=5000)
async def a_page_of_everybodys(asked: Asked) -> None:
    await listed(asked, owner_id=None)
    await listed(asked, owner_id=None, before=asked.there.old_id, visibility="public")


@by("pk_sessions", "pk_users")
async def a_session(asked: Asked) -> None:
    assert await PostgresSessionQueries(asked.database.reader).find(asked.there.session_id)


@by("uq_api_keys_key_hash", "pk_users")
async def an_api_key(asked: Asked) -> None:
    assert await PostgresApiKeyQueries(asked.database.reader).find(asked.there.key_hash)


@by("ix_api_keys_user_id_id")
async def the_api_keys_of_an_account(asked: Asked) -> None:
    lists = PostgresApiKeyLists(asked.database.reader)
    assert await lists.newest(asked.there.owner_id, None, 21)
    await lists.newest(asked.there.owner_id, asked.there.key_id, 21)
    async with asked.accounts.begin() as transaction:
        assert await transaction.api_keys.count(asked.there.owner_id)


@by("pk_api_keys")
async def when_api_keys_were_used(asked: Asked) -> None:
    uses = PostgresKeyUses(asked.database.reader)
    uses.note(asked.there.key_id, asked.there.now)
    await uses.flush()


@by("ix_sessions_user_id", "ix_api_keys_user_id_id")
async def all_credentials_of_an_account(asked: Asked) -> None:
    assert await PostgresCredentialQueries(asked.database.reader).of_account(asked.there.owner_id, 100)


@by("pk_users")
async def an_account_and_its_quota(asked: Asked) -> None:
    quotas, owner_id = PostgresQuotas(0, 0), asked.there.owner_id
    assert await PostgresAccountQueries(asked.database.reader, 0, 0).find(owner_id)
    async with asked.database.transactions.begin() as transaction:
        await quotas.charge(transaction, owner_id, 1000)
        await quotas.release(transaction, owner_id, 1000)


@by("uq_users_email_key", "ix_sessions_user_id")
async def an_account_by_its_address(asked: Asked) -> None:
    async with asked.accounts.begin() as transaction:
        assert await transaction.users.find(Email.of("7@example.com"), "origin")


@by("pk_refresh_tokens", "pk_sessions")
async def a_refresh_token(asked: Asked) -> None:
    async with asked.accounts.begin() as transaction:
        sessions, now = transaction.sessions, asked.there.now
        assert await sessions.lock_by_token(asked.there.token_hash)
        await sessions.use_token(asked.there.token_hash, now)
        await sessions.prolong(asked.there.session_id, now, now + HOUR)
        await sessions.revoke(asked.there.session_id, now)


@by("ix_sessions_user_id", "pk_sessions", rows=20)
async def too_many_sessions_of_an_account(asked: Asked) -> None:
    async with asked.accounts.begin() as transaction:
        await transaction.sessions.revoke_but_newest(asked.there.owner_id, 1, asked.there.now)


@by(
    "ix_sessions_expires_at",
    "ix_sessions_revoked_at",
    "ix_refresh_tokens_used_at",
    "ix_refresh_tokens_session_id",
    "pk_sessions",
    "pk_refresh_tokens",
    rows=200,
)
async def sessions_that_are_over(asked: Asked) -> None:
    async with asked.accounts.begin() as transaction:
        # Planned once it would be a scan; PostgreSQL itself sees how much more that costs, and goes on
        # planning for the values. It decides after the fifth time.
        await transaction.session.execute(text("SET LOCAL plan_cache_mode = auto"))
        over, used = asked.there.now - HOUR, asked.there.now - HOUR
        for _ in range(8):
            assert await transaction.sessions.clear(over=over, used=used, limit=5)


@by("pk_audit_log", rows=100)
async def the_audit_log(asked: Asked) -> None:
    assert len(await PostgresAuditQueries(asked.database.reader).newest(100)) == 100


@by("ix_audit_log_subject_id", rows=100)
async def the_audit_log_of_one_subject(asked: Asked) -> None:
    audit = PostgresAuditQueries(asked.database.reader)
    assert len(await audit.newest(100, "image:1")) == 4


def of_blob(asked: Asked) -> dict[str, str]:
    return {"blob_id": str(asked.there.blob_id)}


@by("ix_outbox_payload")
async def what_a_blob_is_owed(asked: Asked) -> None:
    async with asked.database.transactions.begin() as transaction:
        await transaction.outbox.owes(of_blob(asked), "blob.optimise", "blob.reoptimise")
        await transaction.outbox.discard(of_blob(asked), "blob.optimise", "blob.renditions")
    await owed_to(asked.database.reader, of_blob(asked))


@by("ix_outbox_kind_run_after", rows=1100)
async def work_that_is_due(asked: Asked) -> None:
    kinds = ["blob.optimise", "image.purge", "blob.nothing"]
    async with asked.database.transactions.begin() as transaction:
        assert len(await transaction.outbox.due(kinds, 500)) == 500


@by("pk_outbox", rows=20)
async def work_taken_up_and_ended(asked: Asked) -> None:
    entry_id, kinds = asked.there.entry_id, ["blob.optimise", "image.purge"]
    await take(asked.database.statements, uuid4(), entry_id, kinds)
    async with asked.database.transactions.begin() as transaction:
        attempts = Attempts(transaction.session, uuid4())
        await transaction.outbox.mark_enqueued([entry_id, uuid4()])
        await attempts.renew([entry_id, uuid4()])
        await under_way(transaction.session, [entry_id, uuid4()])
        await attempts.failed(entry_id, "no reason", counts=True)
        await attempts.hand_back(entry_id)
        await transaction.outbox.forget_enqueued([entry_id, uuid4()])
        await transaction.outbox.done(entry_id)


_RECORDING = ("pk_blobs", "pk_outbox", "pk_renditions", "pk_images", "ix_images_blob_id", "ix_outbox_payload")


@by("pk_blobs", "pk_outbox")
async def renditions_being_begun(asked: Asked) -> None:
    for sort in RenditionSort:
        # It is committed, and so of nothing that is there.
        assert (
            await asked.database.transactions.begin_making(uuid4(), uuid4(), sort, clear_after=HOUR) is None
        )


@by(*_RECORDING, rows=POPULAR)
async def renditions_being_made(asked: Asked) -> None:
    options: dict[str, Any] = {"settled": [uuid4()], "owed": "blob.optimise", "same_as": ["blob.optimise"]}
    for sort in RenditionSort:
        # Committed, and of what is shown by so many images that a few versions more are nothing.
        made = made_of(asked.there.popular_id, sort, most_images=50, **options)
        assert len((await asked.database.transactions.record_made(made)).touched) == 50


@by("ix_outbox_kind_run_after", "ix_outbox_dead", rows=200)
async def the_stores_that_work_of_a_kind_names(asked: Asked) -> None:
    async with asked.database.transactions.begin() as transaction:
        assert await transaction.outbox.count_by(RARE_WORK, "shard")


@by("ix_outbox_dead", rows=100)
async def work_that_was_given_up(asked: Asked) -> None:
    async with asked.database.transactions.begin() as transaction:
        assert await DeadLetters(transaction.session).list(100)
        assert await DeadLetters(transaction.session).ids()


@pytest.mark.parametrize("name", CASES)
async def test_it_is_done_by_an_index(asked: Asked, name: str) -> None:
    expected = CASES[name]
    plans = await plans_of(asked, expected.ask)
    assert plans
    for plan in plans:
        assert plan.indexes(), plan.query
        assert plan.indexes() <= expected.indexes, plan.query
        for scan in plan.scans():
            assert scan.kind != "Seq Scan", (scan, plan.query)
            assert scan.rows <= expected.rows, (scan, plan.query)
