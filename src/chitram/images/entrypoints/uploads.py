"""Direct uploads over HTTP: begin, put, complete."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from dishka.integrations.litestar import FromDishka, inject
from litestar import Controller, Request, Response, post, put
from litestar.params import HeaderParameter, Parameter

from chitram.images.domain.idempotency import idempotency_key
from chitram.images.domain.image import Visibility
from chitram.images.entrypoints import openapi
from chitram.images.entrypoints.bodies import UploadBody, created
from chitram.images.entrypoints.slots import UploadSlots
from chitram.images.entrypoints.upload_addresses import UploadAddresses
from chitram.images.entrypoints.uploaders import Uploaders
from chitram.images.public import parse_upload_id
from chitram.images.use_cases.begin_upload import BeginUpload, BeginUploadCommand, BegunUpload
from chitram.images.use_cases.complete_upload import CompleteUpload, CompleteUploadCommand
from chitram.images.use_cases.receive_upload import ReceiveUpload, ReceiveUploadCommand
from chitram.platform.http.body import read_raw
from chitram.platform.http.digest import parse_repr_digest
from chitram.platform.http.headers import content_length, joined_lines
from chitram.platform.http.json import read_json
from chitram.platform.http.limits import BodyLimits
from chitram.platform.http.openapi import MAY_SIGN_IN
from chitram.platform.http.rate_limits import RATE_LIMIT
from chitram.platform.rate_limits.policy import UPLOAD_STEPS, UPLOADS

AnyRequest = Request[Any, Any, Any]


class BeginUploadBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be said of a file before it is sent. Sizes are bytes, `expires_in` seconds."""

    filename: str | None = None
    content_type: str | None = None
    visibility: Visibility = Visibility.UNLISTED
    expires_in: int | None = None
    file_size: int | None = None


class CompleteUploadBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What completes an anonymous upload."""

    upload_token: str | None = None


class BegunUploadBody(msgspec.Struct, frozen=True, kw_only=True):
    """Where to put the bytes: with `method`, at `url`, with the header fields `headers`.

    `upload_token` is shown this once, and only for anonymous uploads.
    """

    upload_id: UUID
    url: str
    method: str = "PUT"
    headers: dict[str, str] = {}
    expires_at: datetime
    upload_token: str | None = None


class UploadsController(Controller):
    """The write side of `/api/v1/uploads`."""

    path = "/api/v1/uploads"
    tags = ("uploads",)

    @post(
        "/",
        operation_id="beginUpload",
        summary="Begin a direct upload",
        operation_class=openapi.BeginsUpload,
        opt={RATE_LIMIT: UPLOADS},
        security=MAY_SIGN_IN,
        responses=openapi.BEGIN_REFUSALS,
    )
    @inject
    async def begin(
        self,
        request: AnyRequest,
        begin_upload: FromDishka[BeginUpload],
        uploaders: FromDishka[Uploaders],
        addresses: FromDishka[UploadAddresses],
    ) -> Response[BegunUploadBody]:
        """Begin an upload whose bytes go straight to the store.

        Put the bytes at `url` before `expires_at`, then complete the upload. Until then nothing can
        be read, and what is never completed is removed.
        """
        principal = await uploaders.admit(request)
        body = await read_json(request.receive, BeginUploadBody, optional=True)
        begun = await begin_upload(BeginUploadCommand(principal=principal, **msgspec.structs.asdict(body)))
        return _begun(begun, addresses)

    @put(
        "/{upload_id:str}/content",
        status_code=204,
        operation_id="putUploadContent",
        summary="Put the bytes of a direct upload",
        operation_class=openapi.PutsContent,
        # Each holds a slot for as long as its bytes take to come.
        opt={RATE_LIMIT: UPLOAD_STEPS},
        responses=openapi.CONTENT_REFUSALS,
    )
    @inject
    async def put_content(
        self,
        request: AnyRequest,
        upload_id: Annotated[str, openapi.UPLOAD_ID],
        receive_upload: FromDishka[ReceiveUpload],
        addresses: FromDishka[UploadAddresses],
        limits: FromDishka[BodyLimits],
        slots: FromDishka[UploadSlots],
        expires: Annotated[str | None, Parameter(description="Of the address that was handed out")] = None,
        signature: Annotated[str | None, Parameter(description="Of the address that was handed out")] = None,
    ) -> None:
        """Put the bytes of an upload at the address that `beginUpload` answered with.

        Only where files are kept by the server itself; other stores have addresses of their own.
        Nothing is checked yet but the size. Putting again replaces what was put before.
        """
        wanted = parse_upload_id(upload_id)
        addresses.check(wanted, expires, signature)
        async with slots.taken(request.scope["client"]):
            with await read_raw(
                request.receive,
                content_length(request),
                limit=limits.file_bytes,
                seconds=limits.seconds,
                spool_directory=limits.spool_directory,
            ) as spool:
                await receive_upload(ReceiveUploadCommand(wanted, spool))

    @post(
        "/{upload_id:str}/complete",
        operation_id="completeUpload",
        summary="Complete a direct upload",
        operation_class=openapi.CompletesUpload,
        # Each costs a look by a decoder, and a refused one may be tried again.
        opt={RATE_LIMIT: UPLOAD_STEPS},
        security=MAY_SIGN_IN,
        responses=openapi.COMPLETE_REFUSALS,
    )
    @inject
    async def complete(
        self,
        request: AnyRequest,
        upload_id: Annotated[str, openapi.UPLOAD_ID],
        complete_upload: FromDishka[CompleteUpload],
        uploaders: FromDishka[Uploaders],
        token_header: Annotated[str | None, HeaderParameter(name="X-Upload-Token")] = None,
        key_header: Annotated[str | None, openapi.IDEMPOTENCY_KEY] = None,
    ) -> Response[UploadBody]:
        """Check what was put as any upload is checked, and make it an image.

        What is refused may be put and completed again until the upload's time is over.
        """
        wanted = parse_upload_id(upload_id)
        principal = await uploaders.admit_to_complete(request)
        key = idempotency_key(key_header, principal.user_id)
        digest = parse_repr_digest(joined_lines(request, "repr-digest"))
        body = await read_json(request.receive, CompleteUploadBody, optional=True)
        async with uploaders.turn(request):
            uploaded = await complete_upload(
                CompleteUploadCommand(
                    upload_id=wanted,
                    principal=principal,
                    token=token_header or body.upload_token,
                    expected_digest=digest,
                    address=request.client.host if request.client else None,
                    key=key,
                )
            )
        return created(uploaded)


def _begun(begun: BegunUpload, addresses: UploadAddresses) -> Response[BegunUploadBody]:
    upload = begun.upload
    body = BegunUploadBody(
        upload_id=upload.id,
        url=begun.address or addresses.make(upload.id, upload.expires_at),
        expires_at=upload.expires_at,
        upload_token=begun.token,
    )
    # The address and the token are as good as a key.
    headers = {"location": f"/api/v1/uploads/{upload.id}", "cache-control": "no-store"}
    return Response(body, status_code=201, headers=headers)
