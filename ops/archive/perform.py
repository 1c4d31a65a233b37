"""Running a replay of the archive for a person: what is asked, what is shown, and what became of it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn, TypeVar

import msgspec
import orjson
import typer
from rich.console import Console

from ops.archive.compare import Comparison, compare
from ops.archive.landed import missing
from ops.archive.replay import ArchiveReplay, Plan
from ops.archive.screen import comparison_json, print_comparisons
from ops.archive.shadow import (
    SwapRefusedError,
    check_swap,
    not_archived_since,
    not_landed_elsewhere,
    reset,
    send_again,
    states,
    swap,
    whole_days,
)
from ops.config.registry import read_history
from ops.dlq.landed import Store
from ops.dlq.perform import ask_kafka, store_of, with_bar
from ops.dlq.replay import now_ms
from ops.dlq.screen import print_replay
from ops.dlq.send import Sender
from ops.dlq.settle import NotSettledError, wait_until_passed, wait_until_shadowed
from ops.kafka import publish, read_erasures, read_reference
from ops.output import ExitCode, fail, print_json
from ops.settings import Settings
from processors.enrich.identity import Identities
from processors.reprocess import Known, Span
from schemas.archive import ARCHIVE_ERRORS, Archive, ArchiveGapError
from schemas.kafka import KafkaConnection
from schemas.logs import read_logs
from schemas.replays import ReplayRecord, encode
from schemas.topics import IDENTITY_LINKS, REPLAYS, SHADOWS

T = TypeVar("T")

LIVE: Final = "live"
SHADOW: Final = "shadow"


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
    swap: bool = False
    even_if_different: bool = False


@dataclass
class Done:
    """What came of it."""

    record: ReplayRecord
    is_warm: bool = True
    comparisons: Sequence[Comparison] = ()
    swapped: Sequence[str] = ()


def run(settings: Settings, wish: Wish, before: ReplayRecord | None) -> None:
    """Replay, and wait for what becomes of it; `before` is the replay to go on with."""
    with store_of(settings) as store:
        done = ask_kafka(settings, lambda: _performed(settings, store, wish, before))
    record = done.record
    if wish.as_json:
        compared = {one.table: comparison_json(one) for one in done.comparisons}
        print_json(orjson.loads(encode(record)) | {"comparison": compared, "swapped": list(done.swapped)})
    else:
        print_replay(record)
        print_comparisons(done.comparisons)
        for day in done.swapped:
            typer.echo(f"  {day} is swapped in; retired_exposures and retired_custom_events have what it was")
    if not done.is_warm:
        typer.echo(
            "  the archive begins less than a claims window before: copies of what came earlier were taken for events.",
            err=True,
        )
    is_done = wish.dry_run or not wish.wait or record.state == "done"
    is_equal = all(one.is_equal for one in done.comparisons)
    if not is_done or not (is_equal or done.swapped):
        raise typer.Exit(ExitCode.FAILED)


async def _performed(settings: Settings, store: Store, wish: Wish, before: ReplayRecord | None) -> Done:
    if before is not None and before.state == "done":
        done = Done(before)
    else:
        done = await _replayed(settings, store, wish, before)
    if wish.into == LIVE or wish.dry_run or done.record.state != "done":
        return done
    with Console(stderr=True).status("comparing"):
        # Before the rows are compared, so that what changes meanwhile is noticed at the swap.
        state = await asyncio.to_thread(states, store, whole_days(wish.span))
        done.comparisons = await asyncio.to_thread(compare, store, wish.span)
    if wish.swap:
        done.record = await _swapped(settings, store, wish, done, state)
        done.swapped = whole_days(wish.span)
    return done


async def _replayed(settings: Settings, store: Store, wish: Wish, before: ReplayRecord | None) -> Done:
    plan = await plan_of(settings, store, wish)
    if wish.into == SHADOW and not wish.dry_run:
        await _settle_log(settings.kafka, store)
        if before is None:
            await asyncio.to_thread(reset, store)
    archive = await of_archive(settings, lambda: asyncio.to_thread(Archive, settings.archive))
    emitted_since = await not_archived_since(settings.kafka, archive) if wish.into == SHADOW and before is None else {}
    work = ArchiveReplay(settings.kafka, archive, plan, before, dry=wish.dry_run, swap_since=emitted_since)
    try:
        what = "looking" if wish.dry_run else "sending"
        record = await of_archive(settings, lambda: with_bar(what, work.run))
    except BaseException:
        if not wish.dry_run:
            typer.echo(f"  go on with: headrace replay --resume {work.record.id}", err=True)
        raise
    if not wish.dry_run and wish.wait:
        record = await _settled(settings.kafka, store, wish, record, work.sent_ids)
    return Done(record, work.is_warm)


async def plan_of(settings: Settings, store: Store, wish: Wish) -> Plan:
    """Return what a wish comes to with what Kafka and the store know now."""
    partitions = (await read_logs(settings.kafka)).line[-1].partitions
    is_live = wish.into == LIVE
    return Plan(
        span=wish.span,
        choose=partial(missing if is_live else not_landed_elsewhere, store, wish.span),
        claims_window_ms=settings.claims_window_ms,
        known=await _known(settings),
        partitions=partitions,
        into=wish.into,
        passed_over="already landed" if is_live else "landed on another day",
        topics={} if is_live else SHADOWS,
        rate=wish.rate,
        note=wish.note,
    )


async def _known(settings: Settings) -> Known:
    identities = Identities(settings.identity_links)
    await read_reference(settings.kafka, IDENTITY_LINKS, identities.take)
    configs, erasures = await read_history(settings.kafka), await read_erasures(settings.kafka)
    return Known(configs, settings.enriching, identities, erasures)


async def _settle_log(kafka: KafkaConnection, store: Store) -> None:
    """Wait until all that the archive can have has landed, and nothing of an earlier replay is on its way."""
    try:
        with Console(stderr=True).status("waiting for what is on its way") as status:
            await wait_until_passed(kafka, store, status.update)
            await wait_until_shadowed(kafka, status.update)
    except NotSettledError as error:
        fail(f"{error}.", "`headrace doctor` says what is wrong with it.")


async def _settled(
    kafka: KafkaConnection, store: Store, wish: Wish, record: ReplayRecord, sent: list[bytes]
) -> ReplayRecord:
    try:
        with Console(stderr=True).status("waiting for the lander") as status:
            if wish.into == SHADOW:
                await wait_until_shadowed(kafka, status.update)
                outcome = {"compared": record.sent}
            else:
                await wait_until_passed(kafka, store, status.update)
                landed = await asyncio.to_thread(store.landed, sent)
                outcome = {"landed": len(landed)}
                if without := len(set(sent)) - len(landed):
                    outcome["not landed"] = without
    except NotSettledError as error:
        typer.echo(f"  everything is sent, but {error}.", err=True)
        return record
    record = msgspec.structs.replace(record, state="done", finished_at=now_ms(), outcome=outcome)
    await _write_down(kafka, record)
    return record


async def _write_down(kafka: KafkaConnection, record: ReplayRecord) -> None:
    await publish(kafka, REPLAYS, [(record.id.encode(), encode(record))])


async def _swapped(
    settings: Settings, store: Store, wish: Wish, done: Done, state: dict[str, dict[str, list[int]]]
) -> ReplayRecord:
    """Swap the days in, and land what would have been swapped away."""
    kafka, record = settings.kafka, done.record
    try:
        check_swap(state, done.comparisons, even_if=wish.even_if_different)
        await swap(store, whole_days(wish.span), state)
    except SwapRefusedError as error:
        print_comparisons(done.comparisons, to_stderr=True)
        fail(
            f"{error}: nothing was swapped.",
            f"See what differs, then: headrace replay --resume {record.id} --swap, perhaps with --even-if-different.",
        )
    async with Sender(kafka, record.id) as sender:
        again = await send_again(kafka, record.swap_since, wish.span, sender, record.id)
    await _settle_log(kafka, store)
    outcome = record.outcome | ({"sent again after the swap": again} if again else {})
    record = msgspec.structs.replace(record, outcome=outcome, finished_at=now_ms())
    await _write_down(kafka, record)
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
