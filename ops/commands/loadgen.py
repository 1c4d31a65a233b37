"""`headrace loadgen`: send many realistic events to a running gateway, and say exactly what was acknowledged."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ops.output import read_settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("loadgen")(loadgen)


def loadgen(
    rate: Annotated[float, typer.Option(min=0, help="Events a second. 0: as fast as answers come.")] = 1_000.0,
    full: Annotated[bool, typer.Option("--full", help="As fast as answers come, whatever --rate says.")] = False,
    seconds: Annotated[float, typer.Option(min=0, help="How long to send. 0: until --events are sent.")] = 10.0,
    events: Annotated[int, typer.Option(min=0, help="How many events to send. 0: for --seconds.")] = 0,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Events of one request, each of another user.")] = 50,
    users: Annotated[int, typer.Option(min=1, help="Different users, about.")] = 100_000,
    connections: Annotated[int, typer.Option(min=1, help="Connections; each has one request in flight.")] = 16,
    duplicates: Annotated[
        float,
        typer.Option(min=0, max=100, help="Percent of the requests that are sent a second time once acknowledged."),
    ] = 0.0,
    encoding: Annotated[
        Literal["identity", "gzip", "zstd"], typer.Option(help="Content-Encoding of the requests.")
    ] = "identity",
    key: Annotated[str, typer.Option(envvar="HEADRACE_LOADGEN_KEY", help="Secret key. Empty: the demo's.")] = "",
    ledger: Annotated[Path | None, typer.Option(help="File that gets which events were sent and acknowledged.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as one line of JSON.")] = False,
) -> None:
    """Send realistic events to the running gateway and report what it answered.

    Requests look like those of a core server SDK. What gets 503 or no answer is sent again, as SDKs
    do. Every event has an id of its own in its metadata (`load_id`). Exit code 1 when some events were
    never acknowledged.
    """
    from ops.loadgen.command import run

    settings = read_settings()
    raise typer.Exit(
        run(
            settings,
            key=key,
            rate=0.0 if full else rate,
            seconds=0.0 if events and not seconds else seconds,
            events=events,
            batch=batch,
            users=users,
            connections=connections,
            copies=duplicates / 100,
            encoding=encoding,
            ledger=ledger,
            as_json=json,
        )
    )
