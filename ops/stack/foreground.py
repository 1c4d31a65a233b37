"""A stack in a terminal: started, shown, and stopped by Ctrl-C."""

import asyncio
import signal
import time

from rich.table import Table

from ops.output import print_json
from ops.settings import Settings
from ops.stack.local import LocalStack
from ops.stack.screen import StackScreen


async def run(settings: Settings, *, as_json: bool) -> None:
    """Start a stack, say where everything is, and stop it on the first SIGINT, SIGTERM or SIGHUP.

    A second signal kills what still runs. Raises StackError when it cannot start, CancelledError
    when it was told to stop before it was ready.
    """
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
