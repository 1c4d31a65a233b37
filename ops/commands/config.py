"""`headrace config`: the config specs that SDKs evaluate and exposures are matched with."""

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ops.output import ExitCode, fail, print_json, read_settings
from schemas import specs
from schemas.kafka import KafkaConnection
from schemas.specs import Specs, SpecsError
from schemas.topics import CONFIG_SPECS


class ChangedDocumentError(Exception):
    """Another document with the same time was pushed before."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Push the config specs that SDKs evaluate.", no_args_is_help=True)
    group.command("push")(push)
    app.add_typer(group, name="config", rich_help_panel="Set up")


def push(
    file: Annotated[str, typer.Argument(help="A specs document, dcs v1 or v2; `-` reads standard input.")],
    project: Annotated[str | None, typer.Option(help="Default: HEADRACE_PROJECT.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a document, and write it to the log: the gateway serves the newest by its `time`.

    Every version is kept, for exposures name the one that decided them. So a document with the
    time of an earlier one must be that one.
    """
    from ops.ask_kafka import ask

    settings = read_settings()
    try:
        source = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}.", "", ExitCode.USAGE)
    try:
        document = specs.parse(source)
    except SpecsError as error:
        fail(f"{file} is refused: {error}.", "SDKs would not evaluate it; mend that place and push it again.")
    name = project or settings.project
    try:
        newest = ask(settings, CONFIG_SPECS, _push(settings.kafka, name, document))
    except ChangedDocumentError:
        fail(
            f"Another document with the time {document.time} was pushed before.",
            "Exposures name a version by its time: give the changed document a later one.",
        )
    counts = Counter(entity.kind for entity in document.entities())
    served = newest <= document.time
    if as_json:
        print_json({"project": name, "time": document.time, "is_newest": served, "entities": dict(counts)})
        return
    listed = ", ".join(f"{count} {kind.replace('_', ' ')}{'s' if count > 1 else ''}" for kind, count in counts.items())
    typer.echo(f"Pushed to project {name}, time {document.time}: {listed or 'no entities'}.")
    if not served:
        typer.echo(f"  It is not the newest: SDKs are served the document of time {newest}.", err=True)


async def _push(connection: KafkaConnection, project: str, document: Specs) -> int:
    """Write the document and return the newest time of the project before. Raises ChangedDocumentError."""
    from ops.kafka import publish, read_compacted

    key = specs.record_key(project, document.time)
    known = await read_compacted(connection, CONFIG_SPECS)
    if known.get(key, document.source) != document.source:
        raise ChangedDocumentError
    await publish(connection, CONFIG_SPECS, [(key, document.source)])
    return max((time for owner, time in map(specs.read_record_key, known) if owner == project), default=0)
