"""Serving an ASGI app with uvicorn inside a process of ours.

uvicorn's own `run` installs signal handlers and exits the process when a port is taken; here the
composition file owns the signals, and a taken port is an error that says which setting changes it.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Generator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from schemas.limits import IDLE_KEEP_ALIVE_S

_BACKLOG: Final = 2048


class PortUnavailableError(Exception):
    """An address cannot be listened on; the message names the setting that changes it."""


def bind(host: str, port: int, setting: str) -> socket.socket:
    """Return a listening-ready socket. `setting` is the variable that changes the port.

    Port 0 takes a free one. Raises PortUnavailableError.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        why = "is already in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise PortUnavailableError(
            f"{host}:{port} {why}; end what listens there or choose another with {setting}"
        ) from error
    return listener


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepting.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class HttpServer:
    """One ASGI app on one bound socket."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        *,
        drain_s: int = 5,
        protocol: type[asyncio.Protocol] | None = None,
    ) -> None:
        """Serve `app` on `listener`; `drain_s` is how long `stop` waits for answers under way."""
        self._listener = listener
        self._server = _Server(
            uvicorn.Config(
                app,
                http=protocol or "httptools",
                ws="none",
                loop="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=IDLE_KEEP_ALIVE_S,
                timeout_graceful_shutdown=drain_s,
            )
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._listener.getsockname()[1])

    async def start(self) -> None:
        """Begin to accept; returns when connections are accepted."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="http-server")
        accepting = asyncio.create_task(self._server.accepting.wait())
        await asyncio.wait([self._task, accepting], return_when=asyncio.FIRST_COMPLETED)
        accepting.cancel()
        if self._task.done():
            await self._task  # it ended before it began: hand on why

    async def stop(self) -> None:
        """Stop accepting, let the answers under way finish, close idle connections."""
        if self._task is None:
            self._listener.close()
            return
        self._server.should_exit = True
        await asyncio.gather(self._task, return_exceptions=True)
