"""`headrace keys`: who may send to which project and environment."""

import sys
import time
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from ops.output import ExitCode, fail, print_json, read_settings
from ops.settings import Settings
from schemas import keys
from schemas.keys import KeyKind, KeyRecord
from schemas.topics import KEYS

_LONGEST_KEY = 1024

Kind = Annotated[KeyKind, typer.Option(help="secret: servers; client: browsers and apps, public; console: reading.")]
Environment = Annotated[str, typer.Option(help="What the key's events are filed under, with the project.")]
Project = Annotated[str | None, typer.Option(help="Default: HEADRACE_PROJECT.")]
Note = Annotated[str, typer.Option(help="A word on who uses it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Create, import and list the keys that SDKs and readers present.", no_args_is_help=True)
    group.command("create")(create)
    group.command("import")(import_)
    group.command("list")(list_)
    app.add_typer(group, name="keys", rich_help_panel="Set up")


def create(
    kind: Kind,
    environment: Environment = "production",
    project: Project = None,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Create a key and print it. It is shown this once: only its hash is kept.

    The gateway accepts it within a second.
    """
    settings = read_settings()
    key = keys.generate(kind)
    record = _publish(settings, key, kind, project, environment, note)
    if as_json:
        print_json({"key": key, **_described(record)})
    else:
        typer.echo(key)
        typer.echo(f"  {record.kind} key {record.key_id} of {record.project}/{record.environment}", err=True)


def import_(
    kind: Kind,
    key: Annotated[str, typer.Option("--key", help="The key; `-` reads it from standard input, unseen by others.")],
    environment: Environment = "production",
    project: Project = None,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Make a key known that SDKs already have, so that they need no change but the address."""
    settings = read_settings()
    value = sys.stdin.readline().strip() if key == "-" else key
    if wrong := why_unusable(value, kind):
        fail(wrong, "Check what was pasted, and --kind.", ExitCode.USAGE)
    record = _publish(settings, value, kind, project, environment, note)
    if as_json:
        print_json(_described(record))
    else:
        typer.echo(f"{record.kind} key {record.key_id} of {record.project}/{record.environment} is known.")


def list_(as_json: AsJson = False) -> None:
    """List the keys that are known, by id; the keys themselves are kept nowhere."""
    from rich.console import Console
    from rich.table import Table

    from ops.ask_kafka import ask
    from ops.kafka import read_compacted

    settings = read_settings()
    found = ask(settings, KEYS, read_compacted(settings.kafka, KEYS))
    records = sorted((keys.decode(value) for value in found.values()), key=lambda record: record.created_at)
    if as_json:
        print_json([_described(record) for record in records])
        return
    table = Table("key id", "kind", "project", "environment", "created", "valid", "note", header_style="bold")
    now_ms = _now_ms()
    for record in records:
        created = datetime.fromtimestamp(record.created_at / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        valid = "yes" if record.is_valid_at(now_ms) else "revoked"
        table.add_row(record.key_id, record.kind, record.project, record.environment, created, valid, record.note)
    Console().print(table if records else "No key is known; `headrace keys create` makes one.")


def why_unusable(key: str, kind: KeyKind) -> str:
    """Return why a key cannot be imported as `kind`, "" when it can."""
    if not key:
        return "The key is empty."
    if len(key) > _LONGEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        return f"A key is at most {_LONGEST_KEY} printable ASCII characters without spaces; this one could not be sent."
    prefix = key.partition("-")[0]
    if prefix != kind and prefix in list(KeyKind):
        # A server's secret that is filed as a client key would be accepted in a query string.
        return f"This is a {prefix} key by its prefix, and not a {kind} key."
    return ""


def _publish(
    settings: Settings, key: str, kind: KeyKind, project: str | None, environment: str, note: str
) -> KeyRecord:
    from ops.ask_kafka import ask
    from ops.kafka import publish

    record = keys.record_of(key, kind, project or settings.project, environment, _now_ms(), note)
    ask(settings, KEYS, publish(settings.kafka, KEYS, [(record.key_hash.encode(), keys.encode(record))]))
    return record


def _described(record: KeyRecord) -> dict[str, object]:
    fields: dict[str, object] = msgspec.to_builtins(record)
    return fields


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
