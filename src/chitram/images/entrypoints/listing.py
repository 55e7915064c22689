"""Lists of images: who may have which, page by page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar.params import Parameter

from chitram.accounts.public import AuditLog, Forbidden, Principal, Scope
from chitram.images.domain.image import Visibility
from chitram.images.ports import Transactions
from chitram.images.public import ImageBody, image_body
from chitram.images.queries import ImageLists, ListedImages
from chitram.kernel.clock import Clock
from chitram.kernel.errors import InvalidRequest
from chitram.platform.http.cursors import LONGEST_PAGE, Cursors

# What cursors of these lists are signed for.
LIST = "images"

Moment = Annotated[
    str | None, Parameter(description="RFC 3339", schema_extra={"format": "date-time"}, max_length=64)
]


class ImageList(msgspec.Struct, frozen=True):
    """A page of a list, newest first, and what asks for the next; null on the last.

    With `content_type` or `visibility` it may hold fewer than were asked for, and even none, before the last.
    """

    items: list[ImageBody]
    next_cursor: str | None


class WantedPage(msgspec.Struct, frozen=True, kw_only=True):
    """What the query asks for."""

    limit: int
    cursor: str | None
    created_after: datetime | None
    created_before: datetime | None
    content_type: str | None
    visibility: str | None
    all_owners: bool
    owner_id: UUID | None


def wanted_page(
    *,
    limit: Annotated[int, Parameter(ge=1, le=LONGEST_PAGE)] = 20,
    cursor: Annotated[str | None, Parameter(description="The `next_cursor` of the page before")] = None,
    created_after: Moment = None,
    created_before: Moment = None,
    content_type: Literal["image/jpeg", "image/png"] | None = None,
    visibility: Visibility | None = None,
    all_owners: Annotated[bool, Parameter(description="For administrators: everybody's")] = False,
    owner_id: Annotated[UUID | None, Parameter(description="For administrators: somebody's")] = None,
) -> WantedPage:
    """Read the query. Raises `InvalidRequest`."""
    if all_owners and owner_id is not None:
        raise InvalidRequest("all_owners and owner_id exclude each other.")
    return WantedPage(
        limit=limit,
        cursor=cursor,
        created_after=_moment("created_after", created_after),
        created_before=_moment("created_before", created_before),
        content_type=content_type,
        visibility=visibility.value if visibility else None,
        all_owners=all_owners,
        owner_id=owner_id,
    )


def _moment(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        # A field without an offset is no moment, and one at the end of time may have no UTC.
        given: datetime = msgspec.convert(text, Annotated[datetime, msgspec.Meta(tz=True)])
        return given.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        raise InvalidRequest(
            f"{name} is a time like 2026-11-22T18:57:42Z.", details={"field": name}
        ) from None


class ImageListing:
    """Lists the images of whoever asks, and for administrators those of others.

    Raises `NotAuthenticated`, `Forbidden` and `InvalidRequest`.
    """

    def __init__(
        self,
        lists: ImageLists,
        transactions: Transactions,
        audit: AuditLog,
        cursors: Cursors,
        clock: Clock,
    ) -> None:
        self._lists = lists
        self._transactions = transactions
        self._audit = audit
        self._cursors = cursors
        self._clock = clock

    async def page(self, principal: Principal, wanted: WantedPage) -> ImageList:
        caller_id = principal.require(Scope.READ)
        owner_id = None if wanted.all_owners else wanted.owner_id or caller_id
        if owner_id != caller_id and not principal.is_admin:
            raise Forbidden
        before = self._cursors.read(wanted.cursor, LIST, owner_id) if wanted.cursor is not None else None
        if owner_id != caller_id:
            await self._record(principal, owner_id)
        found = await self._lists.newest(
            ListedImages(
                owner_id=owner_id,
                now=self._clock.now(),
                before=before,
                created_after=wanted.created_after,
                created_before=wanted.created_before,
                content_type=wanted.content_type,
                visibility=wanted.visibility,
            ),
            wanted.limit + 1,
        )
        shown = found.images[: wanted.limit]
        last = shown[-1].id if len(found.images) > wanted.limit else found.looked_at
        return ImageList(
            items=[image_body(view) for view in shown],
            next_cursor=None if last is None else self._cursors.make(last, LIST, owner_id),
        )

    async def _record(self, principal: Principal, owner_id: UUID | None) -> None:
        subject = "images" if owner_id is None else f"user:{owner_id}"
        async with self._transactions.begin() as transaction:
            await self._audit.record(transaction, actor=principal, action="image.list", subject=subject)
            await transaction.commit()
