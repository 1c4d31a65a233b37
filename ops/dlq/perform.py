"""Running a replay for a person: bars while it works, errors with remedies, and what became of it."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn, TypeVar

import httpx
import msgspec
import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ops.ask_kafka import ask
from ops.dlq.fix import DoesNotApplyError, meant_for, mended
from ops.dlq.landed import Store, StoreError
from ops.dlq.replay import Forecast, OnProgress, Order, Replay, forecast, now_ms
from ops.dlq.screen import print_before_after, print_forecast, print_replay
from ops.dlq.settle import NotSettledError, outcome_of, wait_until_passed
from ops.kafka import publish
from ops.output import ExitCode, fail, print_json
from ops.settings import Settings
from schemas.replays import ReplayRecord, encode
from schemas.topics import REPLAYS

T = TypeVar("T")

_PREVIEWED: Final = 3
"""Events shown before and after, for each rule."""


def dry_run(settings: Settings, order: Order, *, as_json: bool) -> None:
    """Say what would become of a replay; exit with cause and remedy when it cannot be known."""
    with store_of(settings) as store:
        found = ask_kafka(
            settings, lambda: with_bar("looking", lambda told: forecast(settings.kafka, store, order, told))
        )
    if as_json:
        print_json(_forecast_json(found))
        return

    if order.rules:
        print_before_after(_previews(found, order))
    print_forecast(found)


def _previews(found: Forecast, order: Order) -> list[tuple[str, bytes, bytes]]:
    pairs: list[tuple[str, bytes, bytes]] = []
    for (reason, prediction), (letter, _) in found.samples.items():
        meant = meant_for(order.rules, letter.now.reason, letter.now.event_name)
        try:
            after = mended(letter.envelope.original, meant)
        except DoesNotApplyError:
            continue
        if after != letter.envelope.original and len(pairs) < _PREVIEWED * len(order.rules):
            pairs.append((f"{reason}, {prediction.fate.value}", letter.envelope.original, after))
    return pairs


def _forecast_json(found: Forecast) -> dict[str, Any]:
    return {
        "predictions": [
            {
                "reason": reason,
                "fate": prediction.fate.value,
                "why": prediction.why,
                "events": count,
                "sample": str(found.samples[reason, prediction][0].place),
            }
            for (reason, prediction), count in found.counts.items()
        ],
        "unreadable": found.unreadable,
    }


def run(settings: Settings, order: Order, before: ReplayRecord | None, *, wait: bool, as_json: bool) -> None:
    """Replay, and wait for what becomes of it if `wait`; `before` is the replay to go on with."""
    with store_of(settings) as store:
        work = Replay(settings.kafka, store, order, before)

        async def sent_and_settled() -> ReplayRecord:
            record = await with_bar("sending", work.run)
            return await _settled(settings, store, work.event_ids, record, before) if wait else record

        try:
            record = ask_kafka(settings, sent_and_settled)
        except BaseException:
            if work.resumable_id:
                typer.echo(f"  go on with: headrace dlq replay --resume {work.resumable_id}", err=True)
            raise
    if as_json:
        print_json(orjson.loads(encode(record)))
    else:
        print_replay(record)
    if work.unreadable:
        typer.echo(f"  {work.unreadable:,} records are no envelopes and stay; --dry-run names them", err=True)
    if wait and record.state != "done":
        raise typer.Exit(ExitCode.FAILED)


async def _settled(
    settings: Settings, store: Store, event_ids: list[bytes], record: ReplayRecord, before: ReplayRecord | None
) -> ReplayRecord:
    try:
        with Console(stderr=True).status("waiting for the worker") as status:
            await wait_until_passed(settings.kafka, store, status.update)
    except NotSettledError as error:
        typer.echo(f"  everything is sent, but {error}.", err=True)
        return record
    outcome = await outcome_of(store, record.id, event_ids, is_resumed=before is not None)
    record = msgspec.structs.replace(record, state="done", finished_at=now_ms(), outcome=outcome)
    await publish(settings.kafka, REPLAYS, [(record.id.encode(), encode(record))])
    return record


async def with_bar(what: str, work: Callable[[OnProgress], Awaitable[T]]) -> T:
    """Return what `work` returns; while it works a bar says how far it is."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        return await work(lambda passed, total: bar.update(task, completed=passed, total=total))


def ask_kafka(settings: Settings, work: Callable[[], Awaitable[T]]) -> T:
    """Return what `work` returns; exit with cause and remedy when Kafka or the console fail it."""

    async def run() -> T:
        return await work()

    try:
        return ask(settings, REPLAYS, run())
    except httpx.TransportError as error:
        _console_is_away(settings, error)
    except StoreError as error:
        fail(
            f"the console cannot say what has landed: {error}",
            "Look at its log and at the store's.",
            ExitCode.UNREACHABLE,
        )


@contextmanager
def store_of(settings: Settings) -> Iterator[Store]:
    """Yield the console's answers; exit with cause and remedy when it is away."""
    store = Store(settings)
    try:
        store.rows("SELECT 1")
        yield store
    except httpx.TransportError as error:
        _console_is_away(settings, error)
    finally:
        store.close()


def _console_is_away(settings: Settings, error: Exception) -> NoReturn:
    fail(
        f"the console at {settings.console_address} does not answer ({type(error).__name__}).",
        "It knows what has landed: start it with `headrace up`, or set HEADRACE_CONSOLE_URL or HEADRACE_CONSOLE_PORT.",
        ExitCode.UNREACHABLE,
    )
