"""Shadow tables: emptied, and days of them put in the place of the tables' own while events land.

A day of a table is swapped in one step. What landed in that day and is in no archived chunk yet, up to the
moment of the swap, is swapped away with it: it stands in the public topics behind what was emitted when the
last file was made, is read from there afterwards, and sent through the lander once more, which lands what
is missing.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from console.shadow import state_statement
from ops.archive.compare import TABLES, Comparison
from ops.dlq.landed import Store, StoreError
from ops.dlq.reenter import Again
from ops.dlq.send import Sender
from processors.landing.tables import BY_TOPIC
from processors.reprocess import Emitted, Span
from schemas import chunk
from schemas.archive import Archive, Place
from schemas.kafka import KafkaConnection
from schemas.logs import read_logs
from schemas.origin import HEADER

DAY_MS: Final = 24 * 3600 * 1000
CLOCKS_MS: Final = 60_000
"""How far a worker's clock may be behind the broker's."""

_POLL_MS: Final = 500
_IDS_A_QUERY: Final = 3_000

Offsets = dict[str, int]
"""By `<topic>/<partition>`."""


class SwapRefusedError(Exception):
    """Days that may not be swapped as they are; the message says why."""


def whole_days(span: Span) -> list[str]:
    """Return the days of a span as partitions are called, [] where it does not consist of whole days (UTC)."""
    if span.since % DAY_MS or span.until % DAY_MS:
        return []
    first = datetime.fromtimestamp(span.since / 1000, UTC)
    return [f"{first + timedelta(days=n):%Y%m%d}" for n in range((span.until - span.since) // DAY_MS)]


def not_landed_elsewhere(store: Store, span: Span, emitted: Sequence[Emitted]) -> list[Emitted]:
    """Return what is to stand in the shadow: of late arrivals none of which a copy landed outside of the span."""
    late = sorted({one.event_id for one in emitted if one.is_late})
    outside = (
        f"(received_at < fromUnixTimestamp64Milli({span.since}, 'UTC') "
        f"OR received_at >= fromUnixTimestamp64Milli({span.until}, 'UTC'))"
    )
    elsewhere: set[bytes] = set()
    for start in range(0, len(late), _IDS_A_QUERY):
        ids = ", ".join(f"unhex('{event_id.hex()}')" for event_id in late[start : start + _IDS_A_QUERY])
        for table in TABLES:
            found = store.rows(f"SELECT DISTINCT event_id FROM {table} WHERE event_id_bytes IN ({ids}) AND {outside}")  # noqa: S608
            elsewhere.update(bytes.fromhex(str(row[0])) for row in found)
    return [one for one in emitted if one.event_id not in elsewhere]


def reset(store: Store) -> None:
    """Make the shadow tables anew. Raises StoreError and httpx.TransportError."""
    store.post("/api/shadow/reset", {})


def states(store: Store, days: Iterable[str]) -> dict[str, dict[str, list[int]]]:
    """Return what each day of each table is like now: rows, and when the last of them landed."""
    found: dict[str, dict[str, list[int]]] = {}
    for table in (*TABLES, *(f"shadow_{table}" for table in TABLES)):
        for day in days:
            [[rows, landed_ms]] = store.rows(state_statement(table, day))
            found.setdefault(table, {})[day] = [int(str(rows)), int(str(landed_ms))]
    return found


def check_swap(state: dict[str, dict[str, list[int]]], comparisons: Sequence[Comparison], *, even_if: bool) -> None:
    """See that days may be swapped. Raises SwapRefusedError."""
    for table in TABLES:
        for day, (rows, _) in state[table].items():
            if rows and not state[f"shadow_{table}"][day][0]:
                raise SwapRefusedError(f"the shadow of {table} has nothing of {day}, and the table has {rows:,} rows")
    if not even_if and (different := [one.table for one in comparisons if not one.is_equal]):
        raise SwapRefusedError(f"the shadow of {' and of '.join(different)} is another")


async def not_archived_since(kafka: KafkaConnection, archive: Archive) -> Offsets:
    """Return offsets of the public topics behind which all stands that was emitted from chunks without a file.

    Raises KafkaError and `ARCHIVE_ERRORS`.
    """
    newest = {file.place: file for file in await asyncio.to_thread(archive.files)}
    logs = {record.topic: record.log for record in (await read_logs(kafka)).line}
    consumer = AIOKafkaConsumer(**kafka.client_settings(), enable_auto_commit=False)
    try:
        await consumer.start()
        known = await consumer._client.fetch_all_metadata()  # partitions_for_topic() may be stale
        ends = await consumer.end_offsets(_partitions(known, logs))
        since_ms = time.time_ns() // 1_000_000
        for tp, end in ends.items():
            file = newest.get(Place(logs[tp.topic], tp.partition))
            if end and (file is None or file.last + 1 < end):
                last_ms = (await asyncio.to_thread(archive.append_times, file))[1] if file is not None else 0
                since_ms = min(since_ms, last_ms)
        public = _partitions(known, BY_TOPIC)
        found = await consumer.offsets_for_times(dict.fromkeys(public, max(0, since_ms - CLOCKS_MS)))
        ends = await consumer.end_offsets(public)
        return {f"{tp.topic}/{tp.partition}": one.offset if one else ends[tp] for tp, one in found.items()}
    finally:
        await consumer.stop()


def _partitions(known: Any, topics: Iterable[str]) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic in topics for number in known.partitions_for_topic(topic) or ()]


async def swap(store: Store, days: list[str], state: dict[str, dict[str, list[int]]]) -> None:
    """Swap the days in. Raises SwapRefusedError where they are not as `state` says any more, httpx.TransportError."""
    try:
        await asyncio.to_thread(store.post, "/api/shadow/swap", {"days": days, "expected": state})
    except StoreError as error:
        raise SwapRefusedError(str(error).rstrip(".")) from error


async def send_again(kafka: KafkaConnection, since: Offsets, span: Span, sender: Sender, replay: str) -> int:
    """Send what of a span stands in the public topics behind `since` through the lander once more; return how many.

    Raises KafkaError.
    """
    starts = {TopicPartition(*_named(name)): max(0, offset) for name, offset in since.items()}
    consumer = AIOKafkaConsumer(**kafka.client_settings(), enable_auto_commit=False, auto_offset_reset="earliest")
    count = 0
    try:
        await consumer.start()
        ends = await consumer.end_offsets(list(starts))
        behind = {tp for tp in starts if starts[tp] < ends[tp]}
        consumer.assign(behind)
        for tp in behind:
            consumer.seek(tp, starts[tp])
        while behind:
            records = [one for some in (await consumer.getmany(timeout_ms=_POLL_MS)).values() for one in some]
            again = [one for record in records if (one := _again(record, span, replay)) is not None]
            await sender.send_records(again)
            count += len(again)
            behind = {tp for tp in behind if await consumer.position(tp) < ends[tp]}
    finally:
        await consumer.stop()
    return count


def _named(name: str) -> tuple[str, int]:
    topic, _, number = name.rpartition("/")
    return topic, int(number)


def _again(record: Any, span: Span, replay: str) -> Again | None:
    landing = BY_TOPIC[record.topic]
    value = record.value or b""
    received_ms = landing.received_at(value[len(landing.schema.frame) :]) if value else None
    origin = dict(record.headers).get(HEADER)
    if received_ms is None or origin is None or not span.has(received_ms):
        return None
    headers = [(HEADER, origin), (chunk.REPLAY_HEADER, replay.encode())]
    return Again(record.topic, record.partition, record.key or b"", value, headers, [])
