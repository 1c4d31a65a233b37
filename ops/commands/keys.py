"""`headrace keys`: who may send to which project and environment."""

import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import orjson
import typer

from ops.duration import milliseconds
from ops.output import ExitCode, fail, print_json, read_settings
from ops.settings import Settings
from schemas import keys
from schemas.keys import KeyKind, KeyRecord
from schemas.topics import KEYS

_LONGEST_KEY = 1024

_USE_COLUMNS = ("key_id", "project", "environment", "sdk_type", "sdk_version", "events", "last_received")
_USE = """
SELECT key_id, project, environment, sdk_type, sdk_version, count() AS events, max(received_at) AS last_received
FROM (
    SELECT key_id, project, environment, sdk_type, sdk_version, received_at FROM exposures
    UNION ALL
    SELECT key_id, project, environment, sdk_type, sdk_version, received_at FROM custom_events
)
GROUP BY key_id, project, environment, sdk_type, sdk_version
ORDER BY last_received DESC
"""

Kind = Annotated[KeyKind, typer.Option(help="secret: servers; client: browsers and apps, public; console: reading.")]
Environment = Annotated[str, typer.Option(help="What the key's events are filed under, with the project.")]
Project = Annotated[str | None, typer.Option(help="Default: HEADRACE_PROJECT.")]
Note = Annotated[str, typer.Option(help="A word on who uses it.")]
KeyId = Annotated[str, typer.Argument(help="As `headrace keys list` shows it, or so much of it that only one fits.")]
Quota = Annotated[
    int | None,
    typer.Option(
        "--quota-events-per-s",
        min=0,
        help="Events a second that each gateway takes with the key; beyond it answers 503, and SDKs try again. 0: any.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Who may send and read: create, import, rotate and revoke keys, and see who uses them.",
        no_args_is_help=True,
    )
    group.command("create")(create)
    group.command("import")(import_)
    group.command("list")(list_)
    group.command("used")(used)
    group.command("quota")(quota)
    group.command("rotate")(rotate)
    group.command("revoke")(revoke)
    app.add_typer(group, name="keys", rich_help_panel="Set up")


def create(
    kind: Kind,
    environment: Environment = "production",
    project: Project = None,
    note: Note = "",
    quota_events_per_s: Quota = None,
    as_json: AsJson = False,
) -> None:
    """Create a key and print it. It is shown this once: only its hash is kept.

    The gateway accepts it within a second.
    """
    settings = read_settings()
    key = keys.generate(kind)
    record = keys.record_of(
        key, kind, project or settings.project, environment, _now_ms(), note, quota_events_per_s or 0
    )
    _write(settings, [record])
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
    quota_events_per_s: Quota = None,
    as_json: AsJson = False,
) -> None:
    """Make a key known that SDKs already have, so that they need no change but the address."""
    settings = read_settings()
    value = sys.stdin.readline().strip() if key == "-" else key
    if wrong := why_unusable(value, kind):
        fail(wrong, "Check what was pasted, and --kind.", ExitCode.USAGE)
    record = keys.record_of(value, kind, project or settings.project, environment, _now_ms(), note)
    known = next((each for each in _known(settings) if each.key_hash == record.key_hash), None)
    if known is not None and (wrong := why_not_again(known, record)):
        fail(wrong, "`headrace keys create` makes a new one.")
    kept = known.quota_events_per_s if known is not None else 0
    record = _with_quota(record, kept if quota_events_per_s is None else quota_events_per_s)
    _write(settings, [record])
    if as_json:
        print_json(_described(record))
    else:
        typer.echo(f"{record.kind} key {record.key_id} of {record.project}/{record.environment} is known.")


def list_(
    project: Annotated[str | None, typer.Option(help="Only of this project.")] = None, as_json: AsJson = False
) -> None:
    """List the keys that are known, by id; the keys themselves are kept nowhere."""
    records = [record for record in _known(read_settings()) if project in (None, record.project)]
    if as_json:
        print_json([_described(record) for record in records])
        return
    columns = ("key id", "kind", "project", "environment", "created", "valid", "events/s", "note")
    rows = []
    now_ms = _now_ms()
    for record in records:
        created = datetime.fromtimestamp(record.created_at / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        valid, events_per_s = _validity(record, now_ms), str(record.quota_events_per_s or "any")
        about = (record.key_id, record.kind, record.project, record.environment)
        rows.append((*about, created, valid, events_per_s, record.note))
    _print_table(columns, rows, "No key is known; `headrace keys create` makes one.")


def used(
    project: Annotated[str | None, typer.Option(help="Only of this project.")] = None, as_json: AsJson = False
) -> None:
    """Say which SDK of which version sent with which key, and when last, as far as the store remembers.

    What still sends with a key that is to be revoked stands here.
    """
    from ops.console_client import ask_sql

    rows = orjson.loads(ask_sql(read_settings(), _USE, "json"))["rows"]
    uses = [dict(zip(_USE_COLUMNS, row, strict=True)) for row in rows if project in (None, row[1])]
    if as_json:
        print_json(uses)
        return
    columns = [name.replace("_", " ") for name in _USE_COLUMNS]
    _print_table(columns, [use.values() for use in uses], "The store holds no event that was sent with a key.")


def quota(
    key_id: KeyId,
    events_per_s: Annotated[int, typer.Argument(min=0, help="Of each gateway. 0: any number.")],
    as_json: AsJson = False,
) -> None:
    """Set how many events a second each gateway takes with a key. Takes effect within ten seconds.

    Beyond it the answer is 503, for which SDKs keep their events and send them again, but not for ever:
    a quota keeps one application from crowding out the others, and is no way to thin out events. A request
    that is larger is taken when the quota is full, and what comes behind it waits until it is paid for.
    """
    settings = read_settings()
    old = _valid(_found(_known(settings), key_id), _now_ms())
    changed = _with_quota(old, events_per_s)
    _write(settings, [changed])
    if as_json:
        print_json(_described(changed))
    else:
        shown = f"{events_per_s:,} events a second at each gateway" if events_per_s else "any number of events"
        typer.echo(f"{changed.kind} key {changed.key_id} of {changed.project}/{changed.environment} may send {shown}.")


def rotate(
    key_id: KeyId,
    overlap: Annotated[
        str, typer.Option(help="How long the old key stays valid: 90s, 15m, 36h, 7d; 0: not at all.")
    ] = "7d",
    as_json: AsJson = False,
) -> None:
    """Create the successor of a key and print it; the old key ends after the overlap.

    The successor is of the same kind, project and environment, with the same quota. It is shown this once.
    """
    overlap_ms = _length(overlap)
    settings = read_settings()
    now_ms = _now_ms()
    old = _valid(_found(_known(settings), key_id), now_ms)
    key = keys.generate(old.kind)
    new = keys.record_of(key, old.kind, old.project, old.environment, now_ms, old.note, old.quota_events_per_s)
    ended = msgspec.structs.replace(old, revoked_at=_end(old, now_ms + overlap_ms))
    # The successor first: were this cut between the two, the old key would go on working.
    _write(settings, [new, ended])
    if as_json:
        print_json({"key": key, **_described(new), "replaces": _described(ended)})
        return
    typer.echo(key)
    typer.echo(f"  {new.kind} key {new.key_id} of {new.project}/{new.environment}", err=True)
    typer.echo(f"  {old.key_id} is {_validity(ended, now_ms)}", err=True)


def revoke(
    key_id: KeyId,
    after: Annotated[str, typer.Option(help="When: 90s, 15m, 36h, 7d from now; 0: at once.")] = "0",
    as_json: AsJson = False,
) -> None:
    """End a key. Gateways refuse it within ten seconds, and SDKs that use it lose what they send."""
    after_ms = _length(after)
    settings = read_settings()
    now_ms = _now_ms()
    old = _valid(_found(_known(settings), key_id), now_ms)
    ended = msgspec.structs.replace(old, revoked_at=_end(old, now_ms + after_ms))
    _write(settings, [ended])
    if as_json:
        print_json(_described(ended))
    else:
        typer.echo(
            f"{ended.kind} key {ended.key_id} of {ended.project}/{ended.environment} is {_validity(ended, now_ms)}."
        )


def matching(records: Sequence[KeyRecord], key_id: str) -> list[KeyRecord]:
    """Return the key of that id, else those whose id begins with it, with its kind or without."""
    exact = [record for record in records if record.key_id == key_id]
    if exact or not key_id:
        return exact
    return [
        record
        for record in records
        if record.key_id.startswith(key_id) or record.key_id.rpartition("-")[2].startswith(key_id)
    ]


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


def why_not_again(known: KeyRecord, record: KeyRecord) -> str:
    """Return why a key that is known cannot be imported as `record`, "" when that changes nothing."""
    if known.revoked_at:
        # Whatever imports its keys at each start would otherwise undo what somebody decided in need.
        return f"The key {known.key_id} is {_validity(known, record.created_at)}, and an import does not change that."
    if (known.kind, known.project, known.environment) != (record.kind, record.project, record.environment):
        return (
            f"The key is known already, as the {known.kind} key {known.key_id} of {known.project}/{known.environment}."
        )
    return ""


def _write(settings: Settings, records: Sequence[KeyRecord]) -> None:
    from ops.ask_kafka import ask
    from ops.kafka import publish

    ask(
        settings, KEYS, publish(settings.kafka, KEYS, [(each.key_hash.encode(), keys.encode(each)) for each in records])
    )


def _known(settings: Settings) -> list[KeyRecord]:
    from ops.ask_kafka import ask
    from ops.kafka import read_compacted

    found = []
    for key, value in ask(settings, KEYS, read_compacted(settings.kafka, KEYS)).items():
        try:
            found.append(keys.decode(value))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            typer.echo(f"{key[:80]!r} is no key: {error}", err=True)
    return sorted(found, key=lambda record: record.created_at)


def _found(records: Sequence[KeyRecord], key_id: str) -> KeyRecord:
    found = matching(records, key_id)
    if not found:
        fail(f"No key has the id {key_id!r}.", "`headrace keys list` shows the ids.")
    if len(found) > 1:
        ids = ", ".join(record.key_id for record in found)
        fail(f"{key_id!r} may be any of {ids}.", "Give more of the id.", ExitCode.USAGE)
    return found[0]


def _valid(record: KeyRecord, now_ms: int) -> KeyRecord:
    if not record.is_valid_at(now_ms):
        fail(f"The key {record.key_id} is {_validity(record, now_ms)}.", "`headrace keys create` makes a new one.")
    return record


def _end(record: KeyRecord, at_ms: int) -> int:
    """A key that is to end already does not live longer by being ended again."""
    return min(record.revoked_at or at_ms, at_ms)


def _with_quota(record: KeyRecord, events_per_s: int) -> KeyRecord:
    return msgspec.structs.replace(record, quota_events_per_s=events_per_s)


def _length(text: str) -> int:
    try:
        return milliseconds(text)
    except ValueError as error:
        fail(f"{error}.", "", ExitCode.USAGE)


def _print_table(columns: Sequence[str], rows: Iterable[Iterable[object]], none: str) -> None:
    """Print rows for people as text: what an SDK calls itself may be markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ops.console_client import printable

    table = Table(*columns, header_style="bold")
    for row in rows:
        table.add_row(*(Text(printable(str(value))) for value in row))
    Console(highlight=False).print(table if table.rows else none)


def _validity(record: KeyRecord, now_ms: int) -> str:
    if not record.revoked_at:
        return "valid"
    moment = datetime.fromtimestamp(record.revoked_at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"valid until {moment}" if record.is_valid_at(now_ms) else f"revoked since {moment}"


def _described(record: KeyRecord) -> dict[str, object]:
    fields: dict[str, object] = msgspec.to_builtins(record)
    return fields


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
