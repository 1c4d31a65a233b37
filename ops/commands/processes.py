"""`headrace gateway|worker|lander|console|store`: one process of the pipeline in the foreground."""

from importlib import import_module

import typer

from ops.output import read_settings

_PANEL = "Processes"

_HELP = {
    "gateway": "Take events from SDKs and write them to the log; serve config specs.",
    "worker": "Drop duplicates, enrich, and send each event on as an Avro record.",
    "lander": "Put each event into the store, once. Needs a ClickHouse server; else use `store`.",
    "console": "Answer questions: the page, the live stream, SQL. Needs a ClickHouse server; else use `store`.",
    "store": "Lander and console in one process over the embedded ClickHouse engine.",
}


def register(app: typer.Typer) -> None:
    """Add a command per process."""
    for name, text in _HELP.items():
        _add(app, name, text)


def _add(app: typer.Typer, name: str, text: str) -> None:
    @app.command(name, help=f"{text} Runs until SIGTERM or Ctrl-C.", rich_help_panel=_PANEL)
    def command() -> None:
        settings = read_settings()
        raise typer.Exit(import_module(f"ops.processes.{name}").run(settings))
