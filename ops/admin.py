"""The admin port of a process: is it alive, is it ready, and what has it counted."""

import socket
from collections.abc import Callable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ops.http_server import HttpServer, bind

Readiness = Callable[[], dict[str, str]]


class AdminServer:
    """`/livez`, `/readyz` and `/metrics` of one process, on an own port."""

    def __init__(
        self, host: str, port: int, name: str, readiness: Readiness, registry: CollectorRegistry | None = None
    ) -> None:
        """Bind at once, so that a taken port ends the process before it has begun.

        `readiness` returns what is not ready and why, nothing when all is. `name` is the process
        named in the answers. Raises ops.http_server.PortUnavailableError.
        """
        self._name = name
        self._readiness = readiness
        self._registry = registry or CollectorRegistry()
        listener: socket.socket = bind(host, port, "HEADRACE_ADMIN_PORT_BASE")
        routes = [
            Route("/livez", self._livez),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics),
        ]
        self._http = HttpServer(Starlette(routes=routes), listener, drain_s=1)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._http.port

    async def start(self) -> None:
        """Begin to answer."""
        await self._http.start()

    async def stop(self) -> None:
        """Stop answering."""
        await self._http.stop()

    async def _livez(self, _request: Request) -> Response:
        return JSONResponse({"live": True, "process": self._name})

    async def _readyz(self, _request: Request) -> Response:
        waiting_for = self._readiness()
        body = {"ready": not waiting_for, "process": self._name, "waiting_for": waiting_for}
        return JSONResponse(body, 503 if waiting_for else 200)

    async def _metrics(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._registry), media_type=content_type)
