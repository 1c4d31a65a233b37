"""Running a replay of the archive for a person: what is asked, what is shown, and what became of it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn, TypeVar

import msgspec
import orjson
import typer
from rich.console import Console

from ops.archive.landed import missing
from ops.archive.replay import ArchiveReplay, Plan
from ops.config.registry import read_history
from ops.dlq.landed import Store
from ops.dlq.perform import ask_kafka, store_of, with_bar
from ops.dlq.replay import now_ms
from ops.dlq.screen import print_replay
from ops.dlq.settle import NotSettledError, wait_until_passed
from ops.kafka import publish
from ops.output import ExitCode, fail, print_json
from ops.settings import Settings
from processors.reprocess import Span
from schemas.archive import ARCHIVE_ERRORS, Archive, ArchiveGapError
from schemas.kafka import KafkaConnection
from schemas.logs import read_logs
from schemas.replays import ReplayRecord, encode
from schemas.topics import REPLAYS

T = TypeVar("T")

LIVE: Final = "live"


@dataclass(frozen=True)
class Wish:
    """What somebody asked for."""

    span: Span
    into: str
    rate: int = 0
    note: str = ""
    dry_run: bool = False
    wait: bool = True
    as_json: bool = False


def run(settings: Settings, wish: Wish, before: ReplayRecord | None) -> None:
    """Replay, and wait for what becomes of it; `before` is the replay to go on with."""
    with store_of(settings) as store:
        record, is_warm = ask_kafka(settings, lambda: _replayed(settings, store, wish, before))
    if wish.as_json:
        print_json(orjson.loads(encode(record)))
    else:
        print_replay(record)
    if not is_warm:
        typer.echo(
            "  the archive begins less than a claims window before: copies of what came earlier were taken for events.",
            err=True,
        )
    if wish.wait and not wish.dry_run and record.state != "done":
        raise typer.Exit(ExitCode.FAILED)


async def _replayed(
    settings: Settings, store: Store, wish: Wish, before: ReplayRecord | None
) -> tuple[ReplayRecord, bool]:
    plan = await plan_of(settings, store, wish)
    work = await of_archive(settings, lambda: _begun(settings, plan, wish, before))
    try:
        what = "looking" if wish.dry_run else "sending"
        record = await of_archive(settings, lambda: with_bar(what, work.run))
    except BaseException:
        if not wish.dry_run:
            typer.echo(f"  go on with: headrace replay --resume {work.record.id}", err=True)
        raise
    if wish.dry_run or not wish.wait:
        return record, work.is_warm
    return await _settled(settings.kafka, store, record, work.sent_ids), work.is_warm


async def _begun(settings: Settings, plan: Plan, wish: Wish, before: ReplayRecord | None) -> ArchiveReplay:
    archive = await asyncio.to_thread(Archive, settings.archive)
    return ArchiveReplay(settings.kafka, archive, plan, before, dry=wish.dry_run)


async def plan_of(settings: Settings, store: Store, wish: Wish) -> Plan:
    """Return what a wish comes to with what Kafka and the store know now."""
    partitions = (await read_logs(settings.kafka)).line[-1].partitions
    return Plan(
        span=wish.span,
        choose=partial(missing, store, wish.span),
        claims_window_ms=settings.claims_window_ms,
        configs=await read_history(settings.kafka),
        enriching=settings.enriching,
        partitions=partitions,
        into=wish.into,
        passed_over="already landed",
        rate=wish.rate,
        note=wish.note,
    )


async def _settled(kafka: KafkaConnection, store: Store, record: ReplayRecord, sent: list[bytes]) -> ReplayRecord:
    try:
        with Console(stderr=True).status("waiting for the lander") as status:
            await wait_until_passed(kafka, store, status.update)
    except NotSettledError as error:
        typer.echo(f"  everything is sent, but {error}.", err=True)
        return record
    landed = await asyncio.to_thread(store.landed, sent)
    outcome = {"landed": len(landed)}
    if without := len(set(sent)) - len(landed):
        outcome["not landed"] = without
    record = msgspec.structs.replace(record, state="done", finished_at=now_ms(), outcome=outcome)
    await publish(kafka, REPLAYS, [(record.id.encode(), encode(record))])
    return record


async def of_archive(settings: Settings, work: Callable[[], Awaitable[T]]) -> T:
    """Return what `work` returns; exit with cause and remedy when the archive cannot be read."""
    try:
        return await work()
    except ArchiveGapError as error:
        fail(f"{error}.", "Restore the files that are missing; what stands behind them cannot be judged without them.")
    except ARCHIVE_ERRORS as error:
        if isinstance(error, ConnectionError):
            raise
        _unreadable(settings, error)


def _unreadable(settings: Settings, error: Exception) -> NoReturn:
    fail(
        f"the archive {settings.archive} cannot be read: {error}",
        "See that HEADRACE_ARCHIVE names it, and that this user may read it.",
        ExitCode.UNREACHABLE,
    )
