"""The console process: the page, its API, and the live stream."""

import socket

from console.console import Console, ConsoleConfig
from ops.http_server import HttpServer, bind
from ops.processes import lifecycle
from ops.processes.stage import Stage
from ops.settings import Settings
from schemas.metrics import ConsoleMetrics


def console_of(settings: Settings) -> tuple[Stage, HttpServer]:
    """Return the console and the server in front of it. Raises PortUnavailableError."""
    console = Console(ConsoleConfig(kafka=settings.kafka, store=settings.store), ConsoleMetrics())
    listener = bind(settings.host, settings.console_port, "HEADRACE_CONSOLE_PORT")
    return console, _ConsoleServer(console, listener)


class _ConsoleServer(HttpServer):
    """Live streams never end by themselves: they are ended before the server waits for what is under way."""

    def __init__(self, console: Console, listener: socket.socket) -> None:
        super().__init__(console.app, listener, drain_s=1)
        self._console = console

    async def stop(self) -> None:
        await self._console.hang_up()
        await super().stop()


def compose(settings: Settings) -> lifecycle.Composition:
    """Return the console alone."""
    console, server = console_of(settings)
    return lifecycle.Composition([console], [server])


def run(settings: Settings) -> int:
    """Serve until told to stop; return the exit code."""
    return lifecycle.run("console", settings, compose)
