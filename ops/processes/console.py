"""The console process: the page, its API, and the live stream."""

import os
import socket
import sys

from console.console import Console, ConsoleConfig
from console.rehearsal import Command
from ops.http_server import HttpServer, bind
from ops.processes import lifecycle
from ops.processes.stage import Stage
from ops.settings import Settings
from ops.stack import jars
from schemas.metrics import ConsoleMetrics


def console_of(settings: Settings) -> tuple[Stage, HttpServer]:
    """Return the console and the server in front of it. Raises PortUnavailableError."""
    config = ConsoleConfig(
        kafka=settings.kafka,
        store=settings.store,
        allowed_hosts=tuple(settings.allowed_hosts),
        asks_for_keys=settings.asks_for_console_keys,
        charts=jars.jars_dir(settings.cache_dir, jars.CHARTS),
        dry_run=_command(settings),
    )
    console = Console(config, ConsoleMetrics())
    listener = bind(settings.host, settings.console_port, "HEADRACE_CONSOLE_PORT")
    return console, _ConsoleServer(console, listener)


def _command(settings: Settings) -> Command:
    """Return how the console runs a command that asks this console."""
    host = settings.host
    if host in ("0.0.0.0", "::"):  # noqa: S104 - asked for, not listened on
        host = "127.0.0.1"
    url = f"http://[{host}]" if ":" in host else f"http://{host}"
    environment = {**os.environ, "HEADRACE_CONSOLE_URL": f"{url}:{settings.console_port}"}
    return Command((sys.executable, "-m", "ops.cli"), environment)


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
