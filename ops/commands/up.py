"""`headrace up`: everything on this machine, until Ctrl-C."""

import asyncio
import signal
import time
from typing import Annotated

import typer
from rich.table import Table

from ops.output import ExitCode, fail, print_json, read_settings
from ops.settings import Settings
from ops.stack.errors import MissingPartError, StackError
from ops.stack.local import LocalStack
from ops.stack.screen import StackScreen


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(rich_help_panel="Set up")
    def up(
        *,
        as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON when all is ready.")] = False,
    ) -> None:
        """Start broker, gateway, worker, lander and console on this machine, until Ctrl-C.

        Needs Java 17 or later, and Maven the first time. A part that dies is started again; all of
        them end with this process, however it ends. The data stays for the next start.

        Exit codes: 0 stopped by Ctrl-C or SIGTERM, 1 it could not start, 3 Java or Maven is missing.
        """
        settings = read_settings()
        try:
            asyncio.run(_run(settings, as_json=as_json))
        except MissingPartError as error:
            fail(str(error), error.remedy, ExitCode.UNREACHABLE)
        except StackError as error:
            fail(str(error), error.remedy)
        except asyncio.CancelledError:
            fail("stopped before everything was ready; nothing is left running.")


async def _run(settings: Settings, *, as_json: bool) -> None:
    began = time.monotonic()
    screen = StackScreen(quietly=as_json)
    stack = LocalStack(settings, screen.on_event)
    stop_asked = asyncio.Event()
    starting = asyncio.ensure_future(_start(stack, screen))

    def on_signal() -> None:
        if stop_asked.is_set():
            stack.kill_all()
        stop_asked.set()
        starting.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    await starting
    try:
        _announce(stack, screen, time.monotonic() - began, as_json=as_json)
        await stop_asked.wait()
    finally:
        with screen.drawing():
            await stack.__aexit__(None, None, None)


async def _start(stack: LocalStack, screen: StackScreen) -> None:
    with screen.drawing():
        await stack.__aenter__()


def _announce(stack: LocalStack, screen: StackScreen, seconds: float, *, as_json: bool) -> None:
    settings = stack.settings
    addresses = {
        "gateway": f"http://{settings.host}:{settings.gateway_port}",
        "console": settings.console_address,
        "kafka": settings.kafka.bootstrap,
    }
    logs = settings.data_dir / "logs"
    if as_json:
        print_json({"ready": True, "seconds": round(seconds, 2), **addresses, "logs": str(logs)})
        return
    table = Table.grid(padding=(0, 2))
    table.add_row("SDKs send to", addresses["gateway"])
    table.add_row("console", addresses["console"])
    table.add_row("Kafka", addresses["kafka"])
    table.add_row("data, logs", f"{settings.data_dir}, {logs}")
    screen.console.print(f"\n[bold green]Ready[/bold green] after {seconds:.1f} s.")
    screen.console.print(table)
    screen.console.print("[dim]Make a key with `headrace keys create --kind secret`. Ctrl-C stops everything.[/dim]\n")
