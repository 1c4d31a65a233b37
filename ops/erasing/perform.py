"""One erasure from the order to the certificate.

First the unit is written into the list that replays and the archive honour; then everything that is on its way
is waited for; then it is taken out of the store and the archive. Whoever is cut off begins again: what is gone
is gone, and the certificate of the last run says what that run removed.
"""

import asyncio
import getpass
import secrets
import socket
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.archive.perform import of_archive
from ops.dlq.landed import Store
from ops.dlq.perform import ask_kafka, store_of, with_bar
from ops.dlq.replay import now_ms
from ops.dlq.settle import NotSettledError, wait_until_passed, wait_until_shadowed
from ops.erasing.links import forget
from ops.erasing.remains import letters_of, remaining
from ops.kafka import publish
from ops.output import fail, print_json
from ops.settings import Settings
from processors.enrich.privacy import Privacy
from schemas import erasures as erasure_list
from schemas.erasures import Erasure, ErasureList, Unit, digest_of
from schemas.topics import ERASURES

_NOTES: Final = """\
Kafka deletes whole segments by age and cannot take a single record out: what stands under `remains` goes at the time \
named there. A tombstone changes nothing in those topics, whose cleanup is `delete`.
Dead letters are kept for ever unless their topics' retention says otherwise; none of this unit can be replayed. \
kafka-delete-records.sh up to `last_offsets` removes them with all that stand before them.
Letters whose event cannot be read are not searched, because nobody can say whose they are.
Spills of gateways that hold events from before, and copies made by others (backups, exports), are not searched.
Events of this unit that are received from now on are new events."""


@dataclass(frozen=True)
class Wish:
    """Which unit goes, and what is told."""

    project: str
    unit: Unit
    dry_run: bool
    as_json: bool


def run(settings: Settings, wish: Wish) -> None:
    """Erase, or count; print the certificate."""
    with store_of(settings) as store:
        certificate = ask_kafka(settings, lambda: _erase(settings, store, wish))
    if wish.as_json:
        print_json(certificate, pretty=True)
    else:
        _print(certificate)


async def _erase(settings: Settings, store: Store, wish: Wish) -> dict[str, Any]:
    kafka, at = settings.kafka, now_ms()
    erasure = Erasure(
        id=f"{datetime.fromtimestamp(at / 1000, UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
        project=wish.project,
        unit_type=wish.unit[0],
        digest=digest_of(wish.project, wish.unit),
        at=at,
        who=f"{getpass.getuser()}@{socket.gethostname()}",
    )
    units = _as_stored(settings, wish.unit)
    records = [
        erasure_list.encode(msgspec.structs.replace(erasure, digest=digest_of(wish.project, unit))) for unit in units
    ]
    mine = ErasureList()
    for key, value in records:
        mine.take(key, value)
    if not wish.dry_run:
        await publish(kafka, ERASURES, records)
        await _settle(settings, store)
    links = 0
    rows: Counter[str] = Counter()
    for unit in units:
        # Before the rows: the landing of links asks the table how far it is, and must find the tombstones then.
        links += await forget(kafka, wish.project, unit, dry_run=wish.dry_run)
        asked = {
            "project": wish.project, "unit_type": unit[0], "unit_id": unit[1], "before": at,
            "erasure": erasure.id, "dry_run": wish.dry_run,
        }  # fmt: skip
        rows.update((await asyncio.to_thread(store.post, "/api/erasures", asked))["rows"])
    # The landing of links may have taken them out of the table already; they are told as what they are.
    rows.pop("identity_links", None)
    files = await _files(settings, mine, dry_run=wish.dry_run)
    return {
        "erasure": erasure.id,
        "dry_run": wish.dry_run,
        "project": wish.project,
        "unit": {"type": wish.unit[0], "digest": erasure.digest},
        "who": erasure.who,
        "at": datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds"),
        "finished_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "removed": {"store": rows, "identity_links": links, "archive": files},
        "remains": {"topics": await remaining(kafka, at), "dead_letters": await letters_of(kafka, mine)},
        "notes": _NOTES.splitlines(),
    }


def _as_stored(settings: Settings, unit: Unit) -> list[Unit]:
    """Return a unit as it was sent, and as a privacy policy stores it where it hashes ids."""
    policy = settings.enriching.privacy
    return [unit, (unit[0], Privacy(policy).hashed(unit[1]))] if policy.key else [unit]


async def _settle(settings: Settings, store: Store) -> None:
    """Let everything land that was accepted before: it would land behind the deletion."""
    try:
        with Console(stderr=True).status("waiting for what is on its way") as status:
            await wait_until_passed(settings.kafka, store, status.update)
            if settings.archive:
                await wait_until_shadowed(settings.kafka, status.update)
    except NotSettledError as error:
        fail(
            f"nothing was removed yet: {error}.",
            "See `headrace doctor`, then erase again; no replay brings the unit back meanwhile.",
        )


async def _files(settings: Settings, mine: ErasureList, *, dry_run: bool) -> dict[str, Any] | None:
    if not settings.archive:
        return None
    from ops.erasing.files import rewrite  # noqa: PLC0415 - half a second, for those who archive
    from schemas.archive import Archive  # noqa: PLC0415 - as above

    archive = await of_archive(settings, lambda: asyncio.to_thread(Archive, settings.archive))
    found = await of_archive(
        settings, lambda: with_bar("archive", lambda told: rewrite(archive, mine, told, dry_run=dry_run))
    )
    return {"files": found.files, "events": found.events}


def _print(certificate: dict[str, Any]) -> None:
    console = Console(highlight=False)
    what = "would be removed" if certificate["dry_run"] else "removed"
    console.print(Text(f"erasure {certificate['erasure']}, {certificate['unit']['type']}, {what}:", "bold"))
    for table, rows in certificate["removed"]["store"].items():
        console.print(f"  {rows:>12,} rows of {table}")
    if (files := certificate["removed"]["archive"]) is not None:
        console.print(f"  {files['events']:>12,} events in {files['files']:,} files of the archive")
    console.print(f"  {certificate['removed']['identity_links']:>12,} links of the topic identity.links")
    letters = certificate["remains"]["dead_letters"]["records"]
    console.print(Text("remains in Kafka:", "bold"), f"{letters:,} dead letters, and records of these topics")
    table = Table(header_style="bold", border_style="dim")
    for name in ("topic", "until"):
        table.add_column(name)
    for one in certificate["remains"]["topics"]:
        table.add_row(one["topic"], one["until"] or "for ever")
    console.print(table)
    for note in certificate["notes"]:
        typer.echo(f"  {note}")
