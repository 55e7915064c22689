"""The OpenAPI document and an interactive page over it, all of it served from here."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import License
from litestar.types import ControllerRouterHandler
from swagger_ui_bundle import swagger_ui_path

from chitram import __version__
from chitram.platform.http.openapi import SECURITY_SCHEMES

_ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
_START = "start.js"
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Chitram API</title>
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
<link rel="icon" href="/docs/assets/favicon-32x32.png">
</head>
<body>
<div id="api"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/assets/start.js"></script>
</body>
</html>
"""
_START_SCRIPT = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#api", deepLinking: true, tryItOutEnabled: true,
  displayRequestDuration: true, validatorUrl: null,
});
"""


def openapi_document(route_handlers: list[ControllerRouterHandler]) -> dict[str, Any]:
    """Describe the routes as an OpenAPI 3.1 document.

    It is read off an application of its own, so that the real one serves no route that Litestar
    would add around the document.
    """
    described = Litestar(
        route_handlers,
        openapi_config=OpenAPIConfig(
            title="Chitram",
            version=__version__,
            description='Upload images, get links. Every error is `{"error": {code, message, details}}`.',
            license=License(name="MIT", identifier="MIT"),
            use_handler_docstrings=True,
            components=SECURITY_SCHEMES,
        ),
        logging_config=None,
    )
    return described.openapi_schema.to_schema()


def docs_handlers(route_handlers: list[ControllerRouterHandler]) -> list[ControllerRouterHandler]:
    """Make the handlers of `/openapi.json` and `/docs` for these routes."""

    @functools.cache
    def document() -> bytes:
        return msgspec.json.encode(openapi_document(route_handlers))

    @get("/openapi.json", include_in_schema=False, sync_to_thread=True)
    def openapi_json() -> Response[bytes]:
        return Response(document(), media_type=MediaType.JSON, headers={"cache-control": "no-cache"})

    return [openapi_json, docs_page, docs_asset]


@get("/docs", include_in_schema=False, sync_to_thread=False)
def docs_page(request: Request[Any, Any, Any]) -> Response[str]:  # noqa: ARG001 - Litestar's signature
    """Serve the interactive page."""
    return Response(
        _PAGE,
        media_type=MediaType.HTML,
        headers={
            "content-security-policy": _PAGE_POLICY,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "no-cache",
        },
    )


@get("/docs/assets/{name:str}", include_in_schema=False, sync_to_thread=True)
def docs_asset(name: str) -> Response[bytes]:
    """Serve one of the files that the page is made of."""
    if name == _START:
        content, media_type = _START_SCRIPT.encode(), "text/javascript"
    elif name in _ASSETS:
        content, media_type = _asset(name), _ASSETS[name]
    else:
        raise NotFoundException
    return Response(
        content,
        media_type=media_type,
        headers={"cache-control": "public, max-age=86400", "x-content-type-options": "nosniff"},
    )


@functools.cache
def _asset(name: str) -> bytes:
    return Path(str(swagger_ui_path), name).read_bytes()
