"""The API process: routes, their errors, and the server that carries them."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from dishka import AsyncContainer, Provider
from dishka.integrations.litestar import setup_dishka
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from litestar import Litestar
from litestar.datastructures import Headers
from litestar.types import ASGIApp, ControllerRouterHandler, Scope

from chitram.accounts.entrypoints.api_keys import ApiKeysController
from chitram.accounts.entrypoints.http import AuthController
from chitram.accounts.public import Authenticator, account_of
from chitram.accounts.use_cases.register_user import RegisterUser
from chitram.accounts.use_cases.sign_in import SignIn
from chitram.delivery.entrypoints.http import HANDLERS as DELIVERY_HANDLERS
from chitram.delivery.entrypoints.reads import Reads, ReadsFirst
from chitram.images.entrypoints.http import ImagesController
from chitram.images.entrypoints.owning import HANDLERS as OWNING_HANDLERS
from chitram.images.entrypoints.slots import UploadSlots
from chitram.images.entrypoints.uploads import UploadsController
from chitram.images.use_cases.delete_image import DeleteImage
from chitram.images.use_cases.upload_image import UploadImage
from chitram.main.container import make_container
from chitram.main.stores import require_stores
from chitram.platform.embedded.errors import StartError
from chitram.platform.embedded.ports import check_free
from chitram.platform.embedded.process import die_with_parent
from chitram.platform.http.access_log import AccessLog
from chitram.platform.http.body import DrainUnread
from chitram.platform.http.client_address import ClientAddress
from chitram.platform.http.docs import docs_handlers, openapi_document
from chitram.platform.http.errors import EXCEPTION_HANDLERS
from chitram.platform.http.health import HealthController
from chitram.platform.http.listener import drop_stalled_clients
from chitram.platform.http.middleware import RequestEnvelope
from chitram.platform.http.query_limit import QueryLimit
from chitram.platform.http.rate_limits import Metering, RateLimiting
from chitram.platform.http.turns import ReadsGiveWay
from chitram.platform.logging import OUTPUT, configure_logging
from chitram.platform.networks import Networks
from chitram.platform.settings import Settings, load_settings
from chitram.platform.slot_locks import SlotLocks
from chitram.platform.spool import make_spool

ROUTES: list[ControllerRouterHandler] = [
    AuthController,
    ImagesController,
    UploadsController,
    *OWNING_HANDLERS,
    ApiKeysController,
    *DELIVERY_HANDLERS,
    HealthController,
]

_HEADER_SECONDS = 15
# One request line and its headers; a body is read by the application, under its own limits.
_HEAD_BYTES = 64 * 1024
_STOP_SECONDS = 30
_BACKLOG = 1024
_LISTENING_POLL_SECONDS = 0.05
# The server's thread that hands requests over, the event loop and the threads that store take turns.
# With Python's 5 ms they wait for each other while a processor is idle: docs/benchmarks/tried/mixed.md.
_SWITCH_SECONDS = 0.001

_log = structlog.get_logger("chitram.api")


def make_app(settings: Settings, *others: Provider) -> ASGIApp:
    """Make the whole ASGI application for these settings; `others` as in `make_container`."""
    container = make_container(settings, *others)
    app = Litestar(
        [*ROUTES, *docs_handlers(ROUTES)],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=None,
        logging_config=None,
        middleware=[RateLimiting(lambda: container.get(Metering), _account_of)],
        lifespan=[lambda _: _lifespan(container, settings)],
        # Bodies are read by hand, under limits of their own.
        request_max_body_size=None,
    )
    setup_dishka(container, app)
    reading = ReadsGiveWay(QueryLimit(ReadsFirst(app, lambda: container.get(Reads))))
    # Outside the envelope, so that the access line does not wait for what is thrown away.
    served = DrainUnread(RequestEnvelope(reading, AccessLog.from_settings(settings)))
    return ClientAddress(served, Networks(settings.trusted_proxies), settings.forwarded_header)


async def _account_of(scope: Scope) -> str | None:
    container: AsyncContainer = scope["state"]["dishka_container"]
    return await account_of(Headers.from_scope(scope), await container.get(Authenticator))


@asynccontextmanager
async def _lifespan(container: AsyncContainer, settings: Settings) -> AsyncIterator[None]:
    """Make what the first request would otherwise wait for; close everything at the end."""
    try:
        for needed in (
            UploadImage,
            DeleteImage,
            Reads,
            RegisterUser,
            SignIn,
            UploadSlots,
        ):
            await container.get(needed)
    except Exception as error:
        # The server says nothing of why it stops.
        _log.critical("cannot start", reason=str(error))
        raise
    hardening = asyncio.create_task(_drop_stalled_clients(settings.stall_seconds))
    _log.info("ready")
    yield
    hardening.cancel()
    await container.close()
    OUTPUT.flush()


async def _drop_stalled_clients(seconds: float) -> None:
    """Wait for the server to listen, which it does once the application is ready."""
    while not drop_stalled_clients(seconds):  # noqa: ASYNC110 - it has no event for that
        await asyncio.sleep(_LISTENING_POLL_SECONDS)


def app_of_worker(*others: Provider) -> ASGIApp:
    """Make the application of one server process; the factory that granian calls, without arguments."""
    die_with_parent()
    sys.setswitchinterval(_SWITCH_SECONDS)
    # The handlers inherited from the server would swallow a signal that comes before granian sets
    # those of this process.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    settings = load_settings()
    configure_logging(settings)
    app = make_app(settings, *others)
    _spare_from_collection()
    return app


def _spare_from_collection() -> None:
    """Leave out of every search for garbage what is there for good: it would halt requests for longer."""
    gc.collect()
    gc.freeze()


def document() -> dict[str, object]:
    """The OpenAPI document of this release."""
    return openapi_document(ROUTES)


def run(settings: Settings, factory: str = f"{__name__}:app_of_worker") -> int:
    """Serve until told to stop; requests under way are finished.

    Args:
        settings: in force here; server processes read them again.
        factory: module and name of what makes the application in each server process.

    Raises `SettingsError` and `StartError` for what can be known before the server starts.
    """
    asyncio.run(require_stores(settings))
    make_spool(settings)
    SlotLocks.from_settings(settings).close()
    try:
        check_free(settings.http_host, settings.http_port)
    except OSError as error:
        raise StartError(
            f"{settings.http_host}:{settings.http_port} cannot be used: {error.strerror}."
        ) from error
    serve(settings, factory)
    return 0


def serve(settings: Settings, factory: str) -> None:
    """Let the server carry an application until told to stop; `factory` as for `run`."""
    Granian(
        factory,
        factory=True,
        address=settings.http_host,
        port=settings.http_port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        workers=settings.http_workers,
        backlog=_BACKLOG,
        # Of each worker: far above the uploads it reads at once, so that these never use it up.
        backpressure=_BACKLOG,
        http1_settings=HTTP1Settings(header_read_timeout=_HEADER_SECONDS * 1000, max_buffer_size=_HEAD_BYTES),
        websockets=False,
        log_access=False,
        log_enabled=False,
        respawn_failed_workers=True,
        respawn_interval=0.5,
        workers_kill_timeout=_STOP_SECONDS,
    ).serve()
