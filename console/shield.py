"""What stands in front of every answer: who may ask, and what a browser may do with it."""

from typing import Final

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.answers import JSON, RefusedError
from schemas.loopback import is_loopback

_CONTENT_POLICY: Final = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURITY_HEADERS: Final = {
    "content-security-policy": _CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def host_name(host: str) -> str:
    """Return the name in a Host header, without its port and in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


_SAFE: Final = ("GET", "HEAD", "OPTIONS")


class Shield:
    """Adds the security headers, and refuses foreign names of a loopback address and foreign pages.

    Without the latter any web page could have a name of its own point to 127.0.0.1 and read the
    console with the browser of whoever looks at that page (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, allowed_hosts: tuple[str, ...]) -> None:
        self._app = app
        self._allowed = {host_name(host) for host in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            body = orjson.dumps(refusal.as_json())
            start = {"type": "http.response.start", "status": 403, "headers": [(b"content-type", JSON.encode())]}
            await send_with_headers(start)
            await send({"type": "http.response.body", "body": body})
            return
        await self._app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> RefusedError | None:
        if self._is_foreign(scope):
            return RefusedError(
                403,
                "foreign_host",
                "The console listens for this machine only, and was asked for under a foreign name.",
                "Open it as http://127.0.0.1 or http://localhost, or add the name to HEADRACE_ALLOWED_HOSTS.",
            )
        if scope["method"] not in _SAFE and _is_cross_site(Headers(scope=scope)):
            return RefusedError(
                403, "foreign_page", "A page of another site asked for this.", "Ask from the console's own page."
            )
        return None

    def _is_foreign(self, scope: Scope) -> bool:
        server = scope.get("server")
        if not server or not is_loopback(str(server[0])):
            return False
        name = host_name(Headers(scope=scope).get("host", ""))
        return not (is_loopback(name) or name in self._allowed)


def _is_cross_site(headers: Headers) -> bool:
    """Whether a browser says that another site's page sends this: its keys and its loopback address are not theirs."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin", "")
    return bool(origin) and origin.partition("://")[2].lower() != headers.get("host", "").lower()
