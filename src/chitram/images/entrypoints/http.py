"""Uploading and deleting over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

import structlog
from dishka.integrations.litestar import FromDishka, inject
from litestar import Controller, Request, Response, delete, post
from litestar.params import HeaderParameter, Parameter

from chitram.accounts.public import Authenticator, Principal, principal_of
from chitram.images.domain.idempotency import idempotency_key
from chitram.images.entrypoints import openapi
from chitram.images.entrypoints.bodies import (
    BatchBody,
    BatchImageBody,
    RefusedBody,
    UploadBody,
    batch_item,
    created,
)
from chitram.images.entrypoints.options import UploadOptions, options_from
from chitram.images.entrypoints.uploaders import Uploaders
from chitram.images.public import parse_image_id
from chitram.images.use_cases.delete_image import DeleteCommand, DeleteImage
from chitram.images.use_cases.upload_image import UploadCommand, UploadImage
from chitram.images.use_cases.upload_once import UploadOnce
from chitram.kernel.errors import ChitramError, FileTooLarge, InvalidRequest
from chitram.platform.http.body import read_raw
from chitram.platform.http.digest import parse_repr_digest
from chitram.platform.http.disposition import filename_from_disposition
from chitram.platform.http.errors import error_body, error_status
from chitram.platform.http.headers import content_length, joined_lines
from chitram.platform.http.limits import BodyLimits
from chitram.platform.http.multipart import FilePart, Form, read_form
from chitram.platform.http.openapi import MAY_SIGN_IN
from chitram.platform.http.rate_limits import RATE_LIMIT, charge
from chitram.platform.rate_limits.policy import UPLOADS
from chitram.platform.spool import Spool

AnyRequest = Request[Any, Any, Any]

_FILE = "file"
_FILES = "files"

_log = structlog.get_logger("chitram.images")


class ImagesController(Controller):
    """The write side of `/api/v1/images`."""

    path = "/api/v1/images"
    tags = ("images",)

    @post(
        "/upload",
        operation_id="uploadImage",
        summary="Upload an image by form",
        operation_class=openapi.MultipartUpload,
        opt={RATE_LIMIT: UPLOADS},
        security=MAY_SIGN_IN,
        responses=openapi.UPLOAD_REFUSALS,
    )
    @inject
    async def upload(
        self,
        request: AnyRequest,
        upload: FromDishka[UploadOnce],
        uploaders: FromDishka[Uploaders],
        limits: FromDishka[BodyLimits],
        key_header: Annotated[str | None, openapi.IDEMPOTENCY_KEY] = None,
    ) -> Response[UploadBody]:
        """Upload one image as a form: field `file`, and optionally `visibility` and `expires_in`."""
        uploader = await uploaders.admit(request)
        key = idempotency_key(key_header, uploader.user_id)
        async with uploaders.turn(request):
            with await _read_form(request, limits, {_FILE: 1}, batch=False) as form:
                options = options_from(form.fields)
                uploaded = await upload(_command(request, uploader, form.files[0], options), key)
        return created(uploaded)

    @post(
        "/",
        operation_id="uploadImageBytes",
        summary="Upload an image by its bare bytes",
        operation_class=openapi.RawUpload,
        opt={RATE_LIMIT: UPLOADS},
        security=MAY_SIGN_IN,
        responses=openapi.UPLOAD_REFUSALS,
    )
    @inject
    async def upload_bytes(
        self,
        request: AnyRequest,
        upload: FromDishka[UploadOnce],
        uploaders: FromDishka[Uploaders],
        limits: FromDishka[BodyLimits],
        filename: Annotated[str | None, Parameter(description="Name of the file")] = None,
        visibility: Annotated[str | None, Parameter(description="public, unlisted or private")] = None,
        expires_in: Annotated[str | None, Parameter(description="Seconds until it is removed")] = None,
        key_header: Annotated[str | None, openapi.IDEMPOTENCY_KEY] = None,
    ) -> Response[UploadBody]:
        """Upload one image as the bare body: the fast path."""
        uploader = await uploaders.admit(request)
        key = idempotency_key(key_header, uploader.user_id)
        options = options_from({"visibility": visibility, "expires_in": expires_in})
        expected = parse_repr_digest(joined_lines(request, "repr-digest"))
        name = filename or filename_from_disposition(request.headers.get("content-disposition", ""))
        async with uploaders.turn(request):
            with await _read_bytes(request, limits) as spool:
                command = _command_of(
                    request,
                    uploader,
                    spool,
                    options,
                    filename=name,
                    declared_type=request.headers.get("content-type"),
                    digest=expected,
                )
                uploaded = await upload(command, key)
        return created(uploaded)

    @post(
        "/batch",
        status_code=200,
        operation_id="uploadImages",
        summary="Upload many images",
        operation_class=openapi.BatchUpload,
        opt={RATE_LIMIT: UPLOADS},
        security=MAY_SIGN_IN,
        responses=openapi.BATCH_REFUSALS,
    )
    @inject
    async def batch(
        self,
        request: AnyRequest,
        upload: FromDishka[UploadImage],
        uploaders: FromDishka[Uploaders],
        limits: FromDishka[BodyLimits],
    ) -> Response[BatchBody]:
        """Upload many images as a form with several fields `files`.

        There is one result for each file, in their order; a refused file does not stop the others.
        Each file takes one unit of the rate limit. An `Idempotency-Key` is refused: it belongs to one file.
        """
        uploader = await uploaders.admit(request)
        if "idempotency-key" in request.headers:
            raise InvalidRequest(
                "A batch takes no Idempotency-Key. Upload files one by one, each with a key of its own.",
                details={"field": "Idempotency-Key"},
            )
        wanted = {_FILES: limits.batch_files}
        async with uploaders.turn(request):
            with await _read_form(request, limits, wanted, batch=True) as form:
                options = options_from(form.fields)
                results = [
                    await self._upload_one(
                        request, upload, uploader, part, options, limits, is_paid=place == 0
                    )
                    for place, part in enumerate(form.files)
                ]
        return Response(BatchBody(results), status_code=200)

    async def _upload_one(
        self,
        request: AnyRequest,
        upload: UploadImage,
        uploader: Principal,
        part: FilePart,
        options: UploadOptions,
        limits: BodyLimits,
        *,
        is_paid: bool,
    ) -> BatchImageBody | RefusedBody:
        try:
            if not is_paid:
                await charge(request)
            if part.too_large:
                raise FileTooLarge(limits.file_bytes)
            if not part.spool.size:
                raise InvalidRequest("The file is empty.")
            return batch_item(await upload(_command(request, uploader, part, options)))
        except ChitramError as error:
            return RefusedBody(error_status(error), error_body(error).error)
        except Exception as error:  # noqa: BLE001 - the others' delete tokens must reach the client
            _log.exception("unexpected error in a batch", exc_info=error)
            unexpected = ChitramError()
            return RefusedBody(error_status(unexpected), error_body(unexpected).error)

    @delete(
        "/{image_id:str}",
        operation_id="deleteImage",
        summary="Delete an image",
        security=MAY_SIGN_IN,
        responses=openapi.DELETE_REFUSALS,
    )
    @inject
    async def delete(
        self,
        request: AnyRequest,
        image_id: Annotated[str, openapi.IMAGE_ID],
        delete_image: FromDishka[DeleteImage],
        authenticator: FromDishka[Authenticator],
        delete_token: Annotated[str | None, Parameter(description="The token of the upload answer")] = None,
        token_header: Annotated[str | None, HeaderParameter(name="X-Delete-Token")] = None,
    ) -> None:
        """Delete an image, by its owner, an admin or whoever has its delete token."""
        token = token_header or delete_token
        principal = await principal_of(request.headers, authenticator)
        await delete_image(DeleteCommand(parse_image_id(image_id), principal, token))


async def _read_bytes(request: AnyRequest, limits: BodyLimits) -> Spool:
    return await read_raw(
        request.receive,
        content_length(request),
        limit=limits.file_bytes,
        seconds=limits.seconds,
        spool_directory=limits.spool_directory,
    )


async def _read_form(
    request: AnyRequest, limits: BodyLimits, file_fields: dict[str, int], *, batch: bool
) -> Form:
    return await read_form(
        request.receive,
        request.headers.get("content-type", ""),
        content_length(request),
        file_fields=file_fields,
        max_file_bytes=limits.file_bytes,
        max_fields=limits.fields,
        seconds=limits.seconds,
        spool_directory=limits.spool_directory,
        oversize="mark" if batch else "raise",
    )


def _command(
    request: AnyRequest, uploader: Principal, part: FilePart, options: UploadOptions
) -> UploadCommand:
    return _command_of(
        request,
        uploader,
        part.spool,
        options,
        filename=part.filename,
        declared_type=part.content_type,
        digest=parse_repr_digest(part.headers.get("repr-digest")),
    )


def _command_of(
    request: AnyRequest,
    uploader: Principal,
    spool: Spool,
    options: UploadOptions,
    *,
    filename: str | None,
    declared_type: str | None,
    digest: bytes | None,
) -> UploadCommand:
    return UploadCommand(
        received=spool,
        principal=uploader,
        declared_type=declared_type,
        filename=filename,
        visibility=options.visibility,
        expires_in=options.expires_in,
        expected_digest=digest,
        address=request.client.host if request.client else None,
    )
