"""The store process: lander and console together, because the embedded engine allows one process per folder."""

from ops.processes import lifecycle
from ops.processes.console import console_of
from ops.processes.lander import landers_of
from ops.settings import Settings


def compose(settings: Settings) -> lifecycle.Composition:
    """Return lander and console over one engine. Raises PortUnavailableError."""
    console, server = console_of(settings)
    return lifecycle.Composition([*landers_of(settings), console], [server])


def run(settings: Settings) -> int:
    """Work and serve until told to stop; return the exit code."""
    return lifecycle.run("store", settings, compose)
