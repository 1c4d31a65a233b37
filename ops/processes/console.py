"""The console process: the page, its API, and the live stream."""

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
    # Live streams never end by themselves, so waiting for them would only delay the stop.
    return console, HttpServer(console.app, listener, drain_s=1)


def compose(settings: Settings) -> lifecycle.Composition:
    """Return the console alone."""
    console, server = console_of(settings)
    return lifecycle.Composition([console], [server])


def run(settings: Settings) -> int:
    """Serve until told to stop; return the exit code."""
    return lifecycle.run("console", settings, compose)
