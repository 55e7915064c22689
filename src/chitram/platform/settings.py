"""Settings: `CHITRAM_*` variables over an optional TOML file, checked before anything starts."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, get_type_hints
from urllib.parse import urlsplit

import msgspec

from chitram.platform.networks import Networks

PREFIX = "CHITRAM_"

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]
_NETWORKS = ("trusted_proxies", "rate_limit_allow")
_LONGEST_SECONDS = 10 * 365 * 86_400
PerMinute = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
# Sums of two still fit into 64 bits.
MOST_QUOTA = 1 << 62
Quota = Annotated[int, msgspec.Meta(ge=0, le=MOST_QUOTA)]


_BASE_URL = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?/?", re.ASCII)
_SERVER_URLS = {
    "database_url": ("postgresql", "postgres"),
    "valkey_url": ("valkey", "valkeys", "redis", "rediss", "unix"),
}


class SettingsError(Exception):
    """A setting is wrong; the message names it and says what is allowed."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting with its default. The variable is the field's name in capitals, prefixed.

    Sizes are bytes and times seconds. An empty `database_url` or `valkey_url` means the embedded
    server of `chitram up`; an empty `storage_urls` means the folder `objects` of the data
    directory. `database_url` is `postgresql://user:password@host:port/name`. Limits per minute are
    and quotas are off at 0. Of `secret_keys` the first signs and all verify. `trusted_proxies` and
    `rate_limit_allow` are addresses and networks in CIDR notation.
    """

    http_host: str = "127.0.0.1"
    http_port: Port = 8000
    http_workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    data_dir: str = ""
    database_url: str = ""
    valkey_url: str = ""
    storage_urls: str = ""

    max_upload_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1 << 30)] = 5_242_880
    max_batch_files: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    max_pixels: Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)] = 50_000_000
    allowed_formats: Annotated[tuple[Literal["jpeg", "png"], ...], msgspec.Meta(min_length=1)] = (
        "jpeg",
        "png",
    )
    metadata_policy: Literal["strip", "keep"] = "strip"

    uploads_per_minute: PerMinute = 10
    reads_per_minute: PerMinute = 0
    logins_per_minute: PerMinute = 10
    rate_limit_allow: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    forwarded_header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"

    metadata_cache_seconds: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 3600

    file_delivery: Literal["app", "accel", "redirect"] = "app"
    public_base_url: str = ""
    secret_keys: tuple[Annotated[str, msgspec.Meta(min_length=32)], ...] = ()
    direct_upload_seconds: Annotated[int, msgspec.Meta(ge=10, le=86_400)] = 900

    upload_concurrency: Annotated[int, msgspec.Meta(ge=1, le=512)] = 96
    upload_queue: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 64
    upload_wait_seconds: Seconds = 20.0
    upload_body_seconds: Seconds = 60.0
    send_seconds: Seconds = 600.0
    stall_seconds: Seconds = 60.0
    decoders: NotNegative = 0
    decode_seconds: Seconds = 15.0
    decode_memory_bytes: Annotated[int, msgspec.Meta(ge=1 << 29)] = 1 << 30

    anonymous_uploads: bool = True
    registration: Literal["open", "closed"] = "open"
    quota_bytes: Quota = 0
    quota_images: Quota = 0
    access_token_seconds: Annotated[int, msgspec.Meta(ge=10, le=86_400)] = 900
    refresh_token_seconds: Annotated[int, msgspec.Meta(ge=60, le=_LONGEST_SECONDS)] = 30 * 86_400

    renderers: NotNegative = 0
    render_seconds: Seconds = 60.0
    render_memory_bytes: Annotated[int, msgspec.Meta(ge=1 << 29)] = 1 << 30
    upkeep_hour: Annotated[int, msgspec.Meta(ge=0, le=23)] = 3
    integrity_scan_nights: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 30

    delete_token_seconds: Annotated[int, msgspec.Meta(ge=0, le=_LONGEST_SECONDS)] = 0
    reconcile_grace_seconds: Annotated[int, msgspec.Meta(ge=1, le=_LONGEST_SECONDS)] = 3600

    database_pool_size: Positive = 6
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_addresses: Literal["none", "truncated", "full"] = "truncated"


def load_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read and check the settings. Raises `SettingsError` for the first that is wrong."""
    values: dict[str, object] = {}
    if config := environment.get(f"{PREFIX}CONFIG"):
        values.update(_from_toml(Path(config)))
    known = get_type_hints(Settings, include_extras=True)
    for name, value in environment.items():
        if not name.startswith(PREFIX) or name == f"{PREFIX}CONFIG":
            continue
        field = name.removeprefix(PREFIX).lower()
        if field not in known:
            raise SettingsError(f"{name} is not a setting. See the list in the README.")
        listed = "tuple[" in str(known[field])
        values[field] = [part.strip() for part in value.split(",") if part.strip()] if listed else value
    for field, given in values.items():
        _check(field, known[field], given)
    settings: Settings = msgspec.convert(values, Settings, strict=False)
    if settings.public_base_url and not _BASE_URL.fullmatch(settings.public_base_url):
        raise SettingsError(
            f"{PREFIX}PUBLIC_BASE_URL has to be https:// or http://, a host and perhaps a port."
        )
    for field, schemes in _SERVER_URLS.items():
        _check_server_url(field, getattr(settings, field), schemes)
    for field in _NETWORKS:
        _check_networks(field, getattr(settings, field))
    return settings


def _from_toml(path: Path) -> dict[str, object]:
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{PREFIX}CONFIG: cannot read {path}: {error}") from error
    for name in values:
        if name not in Settings.__struct_fields__:
            raise SettingsError(f"{path}: {name!r} is not a setting. See the list in the README.")
    return values


def _check(field: str, kind: object, value: object) -> None:
    """Convert one value by itself, so that the message can name its variable."""
    try:
        msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        # Addresses hold passwords, and keys are secret: their values are not repeated.
        shown = "" if field.endswith(("_url", "_urls", "_keys")) else f"={value!r}"
        raise SettingsError(f"{PREFIX}{field.upper()}{shown} is not allowed: {error}") from error


def _check_server_url(field: str, url: str, schemes: tuple[str, ...]) -> None:
    try:
        parsed = urlsplit(url)
        is_allowed = parsed.scheme in schemes and parsed.port != 0
    except ValueError:  # a port that is none, or half an IPv6 address
        is_allowed = False
    if url and not is_allowed:
        # It holds a password, and is not repeated.
        raise SettingsError(
            f"{PREFIX}{field.upper()} has to look like {schemes[0]}://user:password@host:port/database, with "
            "what is special in user and password percent-encoded."
        )


def _check_networks(field: str, values: tuple[str, ...]) -> None:
    try:
        Networks(values)
    except ValueError as error:
        raise SettingsError(
            f"{PREFIX}{field.upper()} takes addresses and networks like 192.0.2.1, 10.0.0.0/8 or "
            f"2001:db8::/32: {error}"
        ) from error


def default_data_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """Where data goes when nothing is set.

    For root a place that the unprivileged PostgreSQL user can reach, which a closed home is not.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/chitram")
    base = environment.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "chitram"


def data_dir(settings: Settings) -> Path:
    """The data directory in force, as an absolute path."""
    return Path(settings.data_dir).absolute() if settings.data_dir else default_data_dir()


def spool_dir(settings: Settings) -> Path:
    """Where uploads are kept until they are checked and stored."""
    return data_dir(settings) / "spool"


def slots_file(settings: Settings) -> Path:
    """What the processes of an instance lock to share its upload slots."""
    return data_dir(settings) / "upload-slots"


def decoder_count(settings: Settings) -> int:
    """Decoder processes of one API process: as set, or an even share of the processors and one more.

    Under load one waits for the event loop, and another for a processor.
    """
    return settings.decoders or len(os.sched_getaffinity(0)) // settings.http_workers + 1


def statement_connections(settings: Settings) -> int:
    """Connections of a process for single statements.

    A busy event loop keeps each for 50 ms where PostgreSQL needs 1, and an upload needs two statements.
    """
    return 3 * settings.database_pool_size


def renderer_count(settings: Settings) -> int:
    """Originals that one worker renders at once: as set, or one on each processor."""
    return settings.renderers or len(os.sched_getaffinity(0))
