"""`headrace export`: rows as a file for a warehouse, through the console's HTTP API."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn

from ops.console_client import client_of, reachable, refused
from ops.output import ExitCode, fail, print_json, read_settings
from ops.settings import Settings

_ANSWER_S = 120.0
_STDOUT = "-"


class Form(StrEnum):
    """The formats of a file."""

    PARQUET = "parquet"
    CSV = "csv"


def register(app: typer.Typer) -> None:
    """Add the command."""
    export = typer.Typer(help="Write rows to a file, for a warehouse.", no_args_is_help=True)
    app.add_typer(export, name="export", rich_help_panel="Look")

    @export.command()
    def exposures(
        since: Annotated[str, typer.Option(help="Received from then on: 24h ago, a date, or a time (ISO 8601, UTC).")],
        until: Annotated[str, typer.Option(help="Received before then; now unless given.")] = "",
        format_: Annotated[Form, typer.Option("--format", "-f", help="Form of the file.")] = Form.PARQUET,
        output: Annotated[str, typer.Option("--output", "-o", help="The file; `-` is standard output.")] = "",
        as_json: Annotated[bool, typer.Option("--json", help="Tell what was written as JSON.")] = False,
    ) -> None:
        """Write every exposure that was received in a span of time, with all of its columns.

        The file has its name only when it is whole; one that was there before is replaced then. Exit codes: 1 it
        could not be written or was cut off, 2 a wrong time, 3 console or store cannot be reached.
        """
        settings = read_settings()
        parameters = {"since": since, "format": format_.value} | ({"until": until} if until else {})
        if output == _STDOUT:
            if as_json:
                fail("--json would stand among the rows.", "Give a file with --output.", ExitCode.USAGE)
            _receive(settings, parameters, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        path = Path(output or f"exposures.{format_.value}")
        with _whole_or_nothing(path) as file:
            told = _receive(settings, parameters, file)
        told = {"file": str(path), "format": format_.value, **told}
        if as_json:
            print_json(told)
        else:
            size = f"{told['bytes']:,} bytes"
            typer.echo(f"{told['rows']:,} exposures from {told['since']} to {told['until']} in {path} ({size})")


def _receive(settings: Settings, parameters: dict[str, str], file: IO[bytes]) -> dict[str, Any]:
    """Write the console's answer to `file`; return its rows, bytes and span. Exits where it does not come whole."""
    written = 0
    with (
        client_of(settings, _ANSWER_S) as client,
        reachable(settings),
        client.stream("GET", "/api/export/exposures", params=parameters) as answer,
        _progress() as progress,
    ):
        if answer.status_code != httpx.codes.OK:
            refused(answer.status_code, answer.read(), ExitCode.USAGE)
        rows = int(answer.headers["x-headrace-rows"])
        task = progress.add_task(f"{rows:,} exposures", total=None)
        try:
            for part in answer.iter_bytes():
                file.write(part)
                written += len(part)
                progress.update(task, completed=written)
        except httpx.RemoteProtocolError:
            fail("the file was cut off: the console or the store went away.", "Ask again; the console's log says why.")
        except OSError as error:
            fail(f"the file cannot be written: {error.strerror}.", "See that the disk has room, or name another.")
    span = {name: answer.headers[f"x-headrace-{name}"] for name in ("since", "until")}
    return {"rows": rows, "bytes": written, **span}


def _progress() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


@contextmanager
def _whole_or_nothing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file beside `path` that takes its place when all is written, and is removed otherwise."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}.", "Name another file with --output.")
    finally:
        beside.unlink(missing_ok=True)
