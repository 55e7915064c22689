"""Health over HTTP, for people, load balancers and orchestrators."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

import msgspec
from dishka.integrations.litestar import FromDishka, inject
from litestar import Controller, Response, route
from litestar.openapi.datastructures import ResponseSpec

from chitram import __version__
from chitram.platform.health import Health, Overall
from chitram.platform.http.openapi import READ_METHODS, reads

_NO_STORE = {"cache-control": "no-store"}


class Dependency(msgspec.Struct, frozen=True):
    """One thing this service depends on."""

    state: Literal["up", "down"]


class HealthBody(msgspec.Struct, frozen=True):
    """`degraded` when only parts that can be done without are down."""

    status: Overall
    version: str
    dependencies: dict[str, Dependency]


class LiveBody(msgspec.Struct, frozen=True):
    """This process runs."""

    status: Literal["alive"] = "alive"


class ReadyBody(msgspec.Struct, frozen=True):
    """Whether this instance may be sent requests."""

    status: Literal["ready", "not_ready"]


class HealthController(Controller):
    """`/health` and its two narrower sisters."""

    path = "/health"
    tags = ("health",)

    @route(
        "/",
        http_method=READ_METHODS,
        operation_id=reads("Health"),
        summary="The state of every dependency",
        responses={503: ResponseSpec(HealthBody, description="Without database or storage")},
    )
    @inject
    async def health(self, health: FromDishka[Health]) -> Response[HealthBody]:
        """Name each dependency and its state."""
        overall = await health.overall()
        found = await health.dependencies()
        body = HealthBody(
            status=overall,
            version=__version__,
            dependencies={name: Dependency("up" if up else "down") for name, up in found.items()},
        )
        return Response(body, status_code=_status(overall), headers=_NO_STORE)

    @route(
        "/live", http_method=READ_METHODS, operation_id=reads("Liveness"), summary="Whether the process runs"
    )
    async def live(self) -> Response[LiveBody]:
        """Say that the process runs; touches nothing else."""
        return Response(LiveBody(), headers=_NO_STORE)

    @route(
        "/ready",
        http_method=READ_METHODS,
        operation_id=reads("Readiness"),
        summary="Whether to send requests here",
        responses={503: ResponseSpec(ReadyBody, description="Not to be sent requests now")},
    )
    @inject
    async def ready(self, health: FromDishka[Health]) -> Response[ReadyBody]:
        """Say whether database and storage answer."""
        overall = await health.overall()
        ready = overall is not Overall.UNHEALTHY
        return Response(
            ReadyBody("ready" if ready else "not_ready"), status_code=_status(overall), headers=_NO_STORE
        )


def _status(overall: Overall) -> int:
    return HTTPStatus.SERVICE_UNAVAILABLE if overall is Overall.UNHEALTHY else HTTPStatus.OK
