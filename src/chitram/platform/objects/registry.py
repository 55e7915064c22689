"""The object stores of `STORAGE_URLS` by name; the first takes what is new."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import structlog
from obstore.exceptions import BaseError

from chitram.kernel.errors import StorageUnavailable
from chitram.platform.objects.base import ObjectStore
from chitram.platform.objects.local import LocalStore
from chitram.platform.objects.remote import RemoteStore
from chitram.platform.objects.s3 import Bucket
from chitram.platform.settings import Settings, SettingsError, data_dir

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_REGION = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_ENDPOINT = re.compile(r"https?://(?:[\w.-]+|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?/?", re.ASCII)
_CREDENTIAL = re.compile(r"[!-~]+")
_OPTIONS = {"endpoint", "region", "public"}
_DEFAULT_REGION = "us-east-1"
_RETRY_SECONDS = 2.0

log = structlog.get_logger(__name__)


class StoreNotConfigured(StorageUnavailable):
    """A row remembers a store that the settings do not name."""

    default_message = "The store of this image is not configured."


class ObjectStores:
    """Every configured store, in the order of the setting."""

    def __init__(self, stores: Sequence[ObjectStore]) -> None:
        self.primary = stores[0]
        self._by_name = {store.name: store for store in stores}
        self._unstarted = [*stores]

    def by_name(self, name: str) -> ObjectStore:
        """Return the store a row remembers; raises `StoreNotConfigured`."""
        try:
            return self._by_name[name]
        except KeyError:
            raise StoreNotConfigured from None

    def __iter__(self) -> Iterator[ObjectStore]:
        return iter(self._by_name.values())

    async def start(self) -> None:
        """Start every store that is not started yet, then raise what the first failure was.

        `SettingsError` means that a store can never work as configured. After `StorageUnavailable`
        the stores may be used, and `start_later` sees to the rest.
        """
        failures: list[StorageUnavailable | SettingsError] = []
        for store in [*self._unstarted]:
            try:
                await store.start()
            except StorageUnavailable as error:
                failures.append(StorageUnavailable(f"The object store {store.name!r}: {error.message}"))
            except SettingsError as error:
                failures.insert(0, error)
            else:
                self._unstarted.remove(store)
        if failures:
            raise failures[0]

    async def start_later(self) -> None:
        """Start the stores that could not be started, each as soon as its disk or server answers.

        A server that comes late may lack the bucket. What turns out never to work is only logged.
        """
        while self._unstarted:
            await asyncio.sleep(_RETRY_SECONDS)
            try:
                await self.start()
            except (StorageUnavailable, SettingsError) as error:
                log.warning("store not started", reason=str(error))

    async def aclose(self) -> None:
        for store in self:
            await store.aclose()


def stores_from_settings(settings: Settings, environment: Mapping[str, str] = os.environ) -> ObjectStores:
    """Make the stores that the settings name; nothing is touched or asked before `start`.

    Without any, one local store named `local` keeps `objects` in the data directory. The first has
    to have addresses of its own when files are delivered by redirects to it. Raises
    `SettingsError`, whose message never holds an address or a secret.
    """
    stores = _stores(settings, environment)
    if settings.file_delivery == "redirect" and isinstance(stores[0], LocalStore):
        raise SettingsError(
            "CHITRAM_FILE_DELIVERY=redirect needs an s3:// store as the first of CHITRAM_STORAGE_URLS: "
            "local files have no address. Use app, or accel behind nginx."
        )
    return ObjectStores(stores)


def _stores(settings: Settings, environment: Mapping[str, str]) -> list[ObjectStore]:
    if not settings.storage_urls.strip():
        return [LocalStore("local", data_dir(settings) / "objects")]
    stores: list[ObjectStore] = []
    for number, entry in enumerate(settings.storage_urls.split(","), 1):
        name, _, url = entry.strip().partition("=")
        if not _NAME.fullmatch(name) or name in {store.name for store in stores}:
            raise SettingsError(
                f"CHITRAM_STORAGE_URLS: entry {number} has to be name=url, its name unlike the others, "
                "of at most 32 of a-z, 0-9 and - (a comma within a URL is written %2C)."
            )
        stores.append(_store(name, url, environment))
    return stores


def _store(name: str, url: str, environment: Mapping[str, str]) -> ObjectStore:
    try:
        parts = urlsplit(url)
        if parts.scheme == "file":
            return _local(name, parts)
        if parts.scheme == "s3":
            return RemoteStore(name, _bucket(name, parts, environment))
    except (ValueError, BaseError):  # their texts hold parts of the URL
        raise _wrong(name, "its URL is malformed") from None
    raise _wrong(name, "its URL has to begin with file:/// or s3://")


def _local(name: str, parts: SplitResult) -> LocalStore:
    path = unquote(parts.path)
    if parts.netloc or parts.query or parts.fragment or not path.startswith("/") or "\0" in path:
        raise _wrong(name, "its URL has to be file:///, an absolute path and nothing else")
    return LocalStore(name, Path(os.path.normpath(path)))


def _bucket(name: str, parts: SplitResult, environment: Mapping[str, str]) -> Bucket:
    userinfo, _, bucket = parts.netloc.rpartition("@")
    options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    if parts.path not in {"", "/"} or parts.fragment or not options.keys() <= _OPTIONS:
        raise _wrong(name, "its URL has to be s3://bucket?endpoint=…&region=…&public=…, without a path")
    region = options.get("region", _DEFAULT_REGION)
    endpoint = options.get("endpoint", f"https://s3.{region}.amazonaws.com")
    if not _BUCKET.fullmatch(bucket):
        raise _wrong(name, "a bucket's name has 3 to 63 of a-z, 0-9, dots and hyphens")
    if not _REGION.fullmatch(region):
        raise _wrong(name, "region has to be like us-east-1")
    if not _ENDPOINT.fullmatch(endpoint):
        raise _wrong(name, "endpoint has to be http:// or https://, a host and perhaps a port")
    public = options.get("public", endpoint)
    if not _ENDPOINT.fullmatch(public):
        raise _wrong(name, "public has to be http:// or https://, a host and perhaps a port")
    access_key_id, secret_access_key, session_token = _credentials(name, userinfo, environment)
    return Bucket(
        name=bucket,
        endpoint=endpoint.rstrip("/"),
        region=region,
        access_key_id=access_key_id,
        secret_access_key=secret_access_key,
        session_token=session_token,
        public=public.rstrip("/"),
    )


def _credentials(name: str, userinfo: str, environment: Mapping[str, str]) -> tuple[str, str, str | None]:
    """Access key, secret key and session token of the URL, or else of the environment."""
    token = None if userinfo else environment.get("AWS_SESSION_TOKEN") or None
    if userinfo:
        access, secret = (unquote(part) for part in userinfo.partition(":")[::2])
    else:
        access, secret = (
            environment.get(f"AWS_{part}", "") for part in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
        )
    if not _CREDENTIAL.fullmatch(access) or not _CREDENTIAL.fullmatch(secret):
        raise _wrong(
            name,
            "it needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or s3://access:secret@bucket with "
            "both percent-encoded",
        )
    return access, secret, token


def _wrong(name: str, what: str) -> SettingsError:
    return SettingsError(f"CHITRAM_STORAGE_URLS: the store {name!r}: {what}.")
