"""`headrace where`: the way of one event, of a request's or of a unit's, through the console's HTTP API."""

from typing import Annotated, Any
from urllib.parse import quote

import httpx
import orjson
import typer
from rich.console import Console
from rich.text import Text

from ops.console_client import client_of, printable, reachable, refused
from ops.output import print_json, read_settings

_ANSWER_S = 60.0


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(rich_help_panel="Look")
    def where(
        name: Annotated[str, typer.Argument(help="An event's id, a request's id, or a unit's.")],
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Say where an event is: when it was accepted, what it was taken for, when it landed, or why it is dead.

        A copy has the id of the event that it is a copy of, so asking for it shows the one that counts.
        Exit codes: 1 nothing is known of it, 3 console or store cannot be asked.
        """
        settings = read_settings()
        with client_of(settings, _ANSWER_S) as client, reachable(settings):
            answer = client.get(f"/api/events/{quote(name, safe='')}")
        if answer.status_code != httpx.codes.OK:
            refused(answer.status_code, answer.content)
        body: dict[str, Any] = orjson.loads(answer.content)
        if as_json:
            print_json(body)
        else:
            _print(body)


def _print(body: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for event in body["events"]:
        whose = " ".join(printable(str(event[name])) for name in ("name", "unit_id", "project", "environment"))
        console.print(Text(f"{event['event_id'] or event['origin']}  {whose}", "bold"))
        for hop in event["hops"]:
            at = hop.get("at", "")
            style = "red" if hop["hop"] == "dead" else ""
            rest = "  ".join(
                f"{key}={printable(str(value))}" for key, value in hop.items() if value and key not in ("hop", "at")
            )
            console.print(Text(f"  {hop['hop']:<13}{at:<26}{rest}", style))
    if body["truncated"]:
        console.print(Text("There are more; ask for one of them by its event id.", "dim"))
