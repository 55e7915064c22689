"""The S3 client: where a bucket is, how patient its client is, what its errors say."""

from __future__ import annotations

import http.client
import re
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore.store import S3Store

if TYPE_CHECKING:  # obstore has these for type checkers alone
    from obstore.store import ClientConfig, S3Credential

_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_KIND = re.compile(r"kind: (\w{1,64})")
# Regions that are the default of their servers and must not be named when a bucket is made.
_UNNAMED_REGIONS = {"us-east-1", "auto"}
_ANSWER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where a bucket is and what opens it.

    Attributes:
        endpoint: the server's URL without the bucket.
        public: the same as clients reach it, when that is another.
    """

    name: str
    endpoint: str
    region: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    public: str | None = None

    def as_clients_see_it(self) -> Bucket:
        """The same bucket at the endpoint that clients reach."""
        return replace(self, endpoint=self.public or self.endpoint)


def connect(bucket: Bucket, seconds: float, timeouts: ClientConfig) -> S3Store:
    """Make a client that gives up connecting and trying again well within `seconds`.

    Address, credentials and signing are always given: obstore reads `AWS_*` variables for the rest.
    """
    credential: S3Credential = {
        "access_key_id": bucket.access_key_id,
        "secret_access_key": bucket.secret_access_key,
        "token": bucket.session_token,
        "expires_at": None,
    }
    options: ClientConfig = {"allow_http": True, "connect_timeout": timedelta(seconds=seconds * 3 / 8)}
    options.update(timeouts)
    return S3Store(
        bucket.name,
        endpoint=bucket.endpoint,
        region=bucket.region,
        credential_provider=lambda: credential,
        skip_signature=False,
        virtual_hosted_style_request=False,
        disable_bulk_delete=True,
        client_options=options,
        retry_config={
            "max_retries": 2,
            "retry_timeout": timedelta(seconds=seconds / 2),
            "backoff": {
                "init_backoff": timedelta(milliseconds=50),
                "max_backoff": timedelta(milliseconds=500),
                "base": 2,
            },
        },
    )


class BucketRefused(Exception):
    """The server will not make the bucket; the text is one word for why."""


def create_bucket(client: S3Store, bucket: Bucket, seconds: float) -> None:
    """Make a bucket; that it is there by now is not an error. Blocks.

    Raises `BucketRefused`, and `OSError` when the server does not answer within `seconds` or fails.
    """
    body = b"" if bucket.region in _UNNAMED_REGIONS else _location(bucket.region)
    status_code, text = ask("PUT", obstore.sign(client, "PUT", "", timedelta(minutes=1)), seconds, body)
    # A conflict says that another process was first, or that somebody else has the name: using
    # the bucket tells which.
    if status_code in {HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.CONFLICT}:
        return
    found = _CODE.search(text)
    reason = found[1] if found else str(status_code)
    if status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise OSError(reason)
    raise BucketRefused(reason)


def ask(method: str, url: str, seconds: float, body: bytes = b"") -> tuple[int, str]:
    """Send a request that is signed in its URL: the status, and the first 4 MiB of the answer. Blocks.

    For what obstore has no call for. Raises `OSError` when there is no answer within `seconds`.
    """
    parts = urlsplit(url)
    connect_to = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect_to(parts.hostname or "", parts.port, timeout=seconds)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body=body)
        answer = connection.getresponse()
        return answer.status, answer.read(_ANSWER_BYTES).decode(errors="replace")
    except http.client.HTTPException as error:
        raise OSError(type(error).__name__) from error
    finally:
        connection.close()


def _location(region: str) -> bytes:
    return (
        '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
    ).encode()


def status(error: Exception) -> int:
    """HTTP status that a failed call was answered with; 0 when there was no answer."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else 0


def reason(error: Exception) -> str:
    """One word for why a call failed: the server's error code, its status, or the client's."""
    text = str(error)
    found = _CODE.search(text) or _STATUS.search(text) or _KIND.search(text)
    return found[1] if found else "unknown"
