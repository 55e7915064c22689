"""Every refusal that uploading, changing and deleting images can end in."""

from __future__ import annotations

from chitram.kernel.errors import Category, ChitramError


class ImageNotFound(ChitramError):
    code = "IMAGE_NOT_FOUND"
    category = Category.NOT_FOUND
    default_message = "There is no image with this id."


class InvalidFileFormat(ChitramError):
    code = "INVALID_FILE_FORMAT"
    category = Category.UNSUPPORTED
    default_message = "The content is not an image format that is accepted here."


class ContentTypeMismatch(ChitramError):
    code = "CONTENT_TYPE_MISMATCH"
    category = Category.UNSUPPORTED
    default_message = "The declared type and the content disagree."


class ImageTooLarge(ChitramError):
    code = "IMAGE_TOO_LARGE"
    category = Category.UNPROCESSABLE
    default_message = "The image has more pixels than is accepted here."


class CorruptImage(ChitramError):
    code = "CORRUPT_IMAGE"
    category = Category.UNPROCESSABLE
    default_message = "The image is truncated or cannot be decoded."


class DigestMismatch(ChitramError):
    code = "DIGEST_MISMATCH"
    category = Category.INVALID
    default_message = "The bytes received are not those that Repr-Digest describes."


class UploadCapacityExceeded(ChitramError):
    code = "UPLOAD_CAPACITY_EXCEEDED"
    category = Category.UNAVAILABLE
    default_message = "Too many uploads are being checked. Try again shortly."

    def __init__(self, message: str | None = None, *, retry_after: int = 2) -> None:
        super().__init__(message, retry_after=retry_after)


class RendererUnavailable(ChitramError):
    code = "RENDERER_UNAVAILABLE"
    category = Category.UNAVAILABLE
    default_message = "No renderer could be started."


class DeleteTokenRequired(ChitramError):
    code = "DELETE_TOKEN_REQUIRED"
    category = Category.FORBIDDEN
    default_message = "Deleting this image needs its delete token."


class InvalidDeleteToken(ChitramError):
    code = "INVALID_DELETE_TOKEN"
    category = Category.FORBIDDEN
    default_message = "The delete token is wrong or has expired."


class UploadNotFound(ChitramError):
    code = "UPLOAD_NOT_FOUND"
    category = Category.NOT_FOUND
    default_message = "There is no upload with this id, or its time is over."


class UploadNotReceived(ChitramError):
    code = "UPLOAD_NOT_RECEIVED"
    category = Category.CONFLICT
    default_message = "Nothing has been put at the address of this upload yet."


class UploadAlreadyCompleted(ChitramError):
    code = "UPLOAD_ALREADY_COMPLETED"
    category = Category.CONFLICT
    default_message = "This upload has become an image already."


class IdempotencyKeyReused(ChitramError):
    code = "IDEMPOTENCY_KEY_REUSED"
    category = Category.CONFLICT
    default_message = "This Idempotency-Key was used for another upload."


class IdempotencyInProgress(ChitramError):
    code = "IDEMPOTENCY_IN_PROGRESS"
    category = Category.CONFLICT
    default_message = "An upload with this Idempotency-Key is still under way."

    def __init__(self, message: str | None = None, *, retry_after: int = 2) -> None:
        super().__init__(message, retry_after=retry_after)


class UploadTokenRequired(ChitramError):
    code = "UPLOAD_TOKEN_REQUIRED"
    category = Category.FORBIDDEN
    default_message = "Completing this upload needs its upload token."


class InvalidUploadToken(ChitramError):
    code = "INVALID_UPLOAD_TOKEN"
    category = Category.FORBIDDEN
    default_message = "The upload token is wrong."


class InvalidUploadAddress(ChitramError):
    code = "INVALID_UPLOAD_ADDRESS"
    category = Category.FORBIDDEN
    default_message = "This address is not one that was handed out, or its time is over."
