"""Duplicates: the ledger names them, and their bytes are fetched from `events.raw` by origin."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from console.live.as_sent import KIND_OF, UNREADABLE, Names, event_of, fields_of
from console.live.decode import Exposure, Outcome, framed, iso_time
from schemas import chunk, ledger
from schemas.ids import EventIds, scope_of
from schemas.kafka import KafkaConnection
from schemas.limits import KIB
from schemas.logs import LogReader
from schemas.wire import RequestMetadata, text_of

log = structlog.get_logger()

EVENTS_MAX: Final = 50
"""Of one chunk's duplicates, so many are read; the others are counted."""

_FETCH_MS: Final = 250
_FETCH_BYTES: Final = 256 * KIB
"""A larger chunk comes whole all the same (KIP-74)."""

_decode_metadata: Final = msgspec.json.Decoder(RequestMetadata).decode


@dataclass(frozen=True, slots=True)
class Copied:
    """A chunk and which of its events were duplicates."""

    log: int
    partition: int
    offset: int
    indexes: tuple[int, ...]
    count: int
    """How many are duplicates; `indexes` names the first of them."""


def copied(record: Any) -> Copied | None:
    """Return what a record of the ledger says of duplicates; None when nothing, or of a replay, which repeats nobody.

    Raises LedgerError.
    """
    if record.value is None or len(record.key or b"") != len(ledger.key_of(0, 0, 0)):
        return None
    if ledger.is_of_replay(record.value):
        return None
    runs = ledger.decode(record.value).copied()
    if not runs:
        return None
    indexes = [index for first, count in runs for index in range(first, first + count)]
    return Copied(*ledger.coordinate_of(record.key), tuple(indexes[:EVENTS_MAX]), len(indexes))


class Chunks:
    """Fetches single chunks of the logs, one question at a time."""

    def __init__(self, kafka: KafkaConnection) -> None:
        self._kafka = kafka
        self._logs: LogReader | None = None
        self._consumer: Any = None
        self._lock = asyncio.Lock()

    async def stop(self) -> None:
        """Let go of the log."""
        logs, self._logs = self._logs, None
        if logs is not None:
            await logs.stop()
        await self._disconnect()

    async def _disconnect(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with suppress(KafkaError, OSError):
                await consumer.stop()

    async def fetch(self, wanted: Sequence[Copied], timeout_s: float) -> list[tuple[Copied, Any]]:
        """Return the records that were found in time. What cannot be had is left out: a duplicate loses nobody."""
        found: list[tuple[Copied, Any]] = []
        async with self._lock:
            try:
                async with asyncio.timeout(timeout_s):
                    for one in wanted:
                        record = await self._one(one)
                        if record is not None:
                            found.append((one, record))
            except (KafkaError, OSError, TimeoutError) as error:
                log.info("duplicates_not_fetched", error=repr(error))
                await self._disconnect()
        return found

    async def _one(self, wanted: Copied) -> Any | None:
        if self._logs is None:
            self._logs = LogReader(self._kafka)
            await self._logs.start()
        written = (await self._logs.wait()).known.get(wanted.log)
        if written is None or wanted.partition >= written.partitions:
            return None
        consumer = await self._connected()
        at = TopicPartition(written.topic, wanted.partition)
        if at not in consumer.assignment():
            consumer.assign([*consumer.assignment(), at])
            consumer.pause(*consumer.assignment())
        consumer.seek(at, wanted.offset)
        consumer.resume(at)
        try:
            found = await consumer.getmany(at, timeout_ms=_FETCH_MS, max_records=1)
        finally:
            consumer.pause(at)
        return next((record for record in found.get(at, ()) if record.offset == wanted.offset), None)

    async def _connected(self) -> Any:
        if self._consumer is None:
            consumer: Any = AIOKafkaConsumer(
                group_id=None,
                auto_offset_reset="latest",
                max_partition_fetch_bytes=_FETCH_BYTES,
                **self._kafka.client_settings(),
            )
            self._consumer = consumer
            await consumer.start()
        return self._consumer


def exposures_of(one: Copied, record: Any, names: Names) -> list[Exposure]:
    """Return the duplicates of a chunk that are exposures."""
    try:
        parts = chunk.decode(record.value or b"").requests
    except (*UNREADABLE, ValueError):
        return []
    wanted = set(one.indexes)
    found = []
    for index, part, position in _places(parts):
        if index in wanted and (shown := _duplicate(part, position, names)) is not None:
            shown["origin"] = f"{one.log}/{one.partition}/{one.offset}/{index}/0"
            shown["record"] = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            found.append(framed(Outcome.DUPLICATE, shown, record.timestamp))
    return found


def _places(parts: Sequence[chunk.RequestPart]) -> Iterator[tuple[int, chunk.RequestPart, int]]:
    index = 0
    for part in parts:
        for position in range(len(part.events)):
            yield index, part, position
            index += 1


def _duplicate(part: chunk.RequestPart, position: int, names: Names) -> dict[str, Any] | None:
    received = bytes(part.events[position])
    event = event_of(received)
    if event is None or text_of(event.eventName) not in KIND_OF:
        return None
    try:
        sender = _decode_metadata(part.statsigMetadata)
    except UNREADABLE:
        sender = RequestMetadata()
    sdk_type, stable_id, session_id = (text_of(each) for each in (sender.sdkType, sender.stableID, sender.sessionID))
    event_id = part.ids.get(position)
    if event_id is None:
        scope = scope_of(sdk_type, stable_id, session_id)
        ids = EventIds(part.project, part.environment, scope, part.idempotency_key or part.request_id)
        event_id = ids.of(received, part.occurrences.get(position, 0), event.time is not None).hex()
    return {
        **names.complete(fields_of(event, stable_id)),
        "event_id": event_id,
        "project": part.project,
        "environment": part.environment,
        "request_id": part.request_id,
        "received_at": iso_time(part.received_at),
        "sdk_type": sdk_type,
        "sdk_version": text_of(sender.sdkVersion),
        "session_id": session_id,
    }
