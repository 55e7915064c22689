"""Uploads in parts that nobody will end: found and aborted, for which obstore has no calls."""

from __future__ import annotations

import hashlib
import hmac
import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import quote, urlsplit

from chitram.platform.objects.s3 import Bucket, ask

_UPLOAD = re.compile(r"<Upload>(.*?)</Upload>", re.DOTALL)
_SIGNED_SECONDS = 60


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """An upload in parts as the server lists it; `begun` is by the server's clock."""

    key: str
    upload_id: str
    begun: datetime


class MultipartRefused(Exception):
    """The server does not list or abort uploads; the text is its status."""


def unfinished_uploads(bucket: Bucket, prefix: str, seconds: float) -> Iterator[UnfinishedUpload]:
    """Yield uploads in parts under keys that start with `prefix`. Blocks.

    Raises `MultipartRefused`, and `OSError` when the server does not answer within `seconds` or fails.
    """
    markers: dict[str, str] = {}
    while True:
        text = _ask(bucket, "GET", "", {"uploads": "", "prefix": prefix, **markers}, seconds)
        for found in _UPLOAD.finditer(text):
            begun = datetime.fromisoformat(_value(found[1], "Initiated")).astimezone(UTC)
            yield UnfinishedUpload(_value(found[1], "Key"), _value(found[1], "UploadId"), begun)
        reached = {
            "key-marker": _value(text, "NextKeyMarker"),
            "upload-id-marker": _value(text, "NextUploadIdMarker"),
        }
        if _value(text, "IsTruncated") != "true" or reached == markers:
            return
        markers = reached


def abort_upload(bucket: Bucket, upload: UnfinishedUpload, seconds: float) -> None:
    """Remove the parts of an upload; that it is gone is not an error. Blocks, raises as above."""
    _ask(bucket, "DELETE", upload.key, {"uploadId": upload.upload_id}, seconds)


def _ask(bucket: Bucket, method: str, key: str, query: Mapping[str, str], seconds: float) -> str:
    status, text = ask(method, signed_url(bucket, method, key, query, datetime.now(UTC)), seconds)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED:
        raise OSError(str(status))
    if status >= HTTPStatus.BAD_REQUEST and not (method == "DELETE" and status == HTTPStatus.NOT_FOUND):
        raise MultipartRefused(str(status))
    return text


def _value(text: str, name: str) -> str:
    """Text of the first element of a name, in XML of one known shape."""
    found = re.search(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)
    return html.unescape(found[1]) if found else ""


def signed_url(bucket: Bucket, method: str, key: str, query: Mapping[str, str], now: datetime) -> str:
    """Sign a request in its URL, for a minute: AWS Signature Version 4 with an unsigned body.

    Unlike obstore it takes parameters of the request.
    """
    scheme, host, *_ = urlsplit(bucket.endpoint)
    # As clients send it: without the port that goes without saying.
    host = host.removesuffix(":443" if scheme == "https" else ":80")
    moment = f"{now:%Y%m%dT%H%M%SZ}"
    scope = f"{moment[:8]}/{bucket.region}/s3/aws4_request"
    given = {
        **query,
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{bucket.access_key_id}/{scope}",
        "X-Amz-Date": moment,
        "X-Amz-Expires": str(_SIGNED_SECONDS),
        "X-Amz-SignedHeaders": "host",
    }
    if bucket.session_token:
        given["X-Amz-Security-Token"] = bucket.session_token
    path = quote(f"/{bucket.name}/{key}", safe="/-_.~")
    encoded = "&".join(
        sorted(f"{quote(name, safe='-_.~')}={quote(given[name], safe='-_.~')}" for name in given)
    )
    request = f"{method}\n{path}\n{encoded}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
    message = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signing = f"AWS4{bucket.secret_access_key}".encode()
    for part in scope.split("/"):
        signing = hmac.digest(signing, part.encode(), "sha256")
    signature = hmac.digest(signing, message.encode(), "sha256").hex()
    return f"{bucket.endpoint}{path}?{encoded}&X-Amz-Signature={signature}"
