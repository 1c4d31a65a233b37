"""What stands in front of every answer: who may ask, and what a browser may do with it."""

import ipaddress
from typing import Final

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.answers import JSON, RefusedError

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


def is_loopback(name: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Shield:
    """Adds the security headers, and refuses what reaches a loopback address under a foreign name.

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

        if self._is_foreign(scope):
            refusal = RefusedError(
                403,
                "foreign_host",
                "The console listens for this machine only, and was asked for under a foreign name.",
                "Open it as http://127.0.0.1 or http://localhost.",
            )
            body = orjson.dumps(refusal.as_json())
            start = {"type": "http.response.start", "status": 403, "headers": [(b"content-type", JSON.encode())]}
            await send_with_headers(start)
            await send({"type": "http.response.body", "body": body})
            return
        await self._app(scope, receive, send_with_headers)

    def _is_foreign(self, scope: Scope) -> bool:
        server = scope.get("server")
        if not server or not is_loopback(str(server[0])):
            return False
        name = host_name(Headers(scope=scope).get("host", ""))
        return not (is_loopback(name) or name in self._allowed)
