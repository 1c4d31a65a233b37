"""The page and its parts, read once from the package: plain files, nothing built, nothing from elsewhere."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class Asset:
    """One file of the page."""

    name: str
    body: bytes
    media_type: str
    etag: str


def assets() -> dict[str, Asset]:
    """Return the files of the page by name."""
    found = {}
    for entry in files("console").joinpath("page").iterdir():
        ending = entry.name[entry.name.rfind(".") :]
        if ending in MEDIA_TYPES:
            body = entry.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
            found[entry.name] = Asset(entry.name, body, MEDIA_TYPES[ending], etag)
    return found


VIEWS: Final = (
    "/", "/experiments", "/experiments/{name:path}", "/live", "/events", "/events/{name:path}", "/dead-letters", "/sql",
)  # fmt: skip
"""The addresses of the page: it is one file, and finds its view by the address."""


def routes() -> list[Route]:
    """Return a route for each file, and one for each view."""
    found = assets()
    page = _serve(found.pop("index.html"))
    return [Route(f"/{asset.name}", _serve(asset)) for asset in found.values()] + [Route(at, page) for at in VIEWS]


def _serve(asset: Asset) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        # `no-cache`: the browser asks each time and is answered 304, so an upgrade is seen at once.
        headers = {"etag": asset.etag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == asset.etag:
            return Response(status_code=304, headers=headers)
        return Response(asset.body, headers=headers, media_type=asset.media_type)

    return endpoint
