"""Reading the dead-letter topics: up to their ends of now, or to those that a replay began with."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from ops.dlq.letters import Letter, Letters, Newest, Place, may_have_failed_again
from schemas import dead_letter
from schemas.dead_letter import EnvelopeError
from schemas.kafka import KafkaConnection
from schemas.large_records import large_records
from schemas.limits import MIB
from schemas.logs import read_logs
from schemas.topics import DEAD_LETTERS

_POLL_MS: Final = 500
_POLL_RECORDS: Final = 5_000
_POLL_BYTES: Final = 32 * MIB

Ends = dict[str, int]
"""Offsets by `<topic>/<partition>`."""


class Unreadable:
    """Records that are no envelopes: how many, and what the first of them were."""

    _NAMED: Final = 20

    def __init__(self) -> None:
        self.count = 0
        self.named: list[str] = []

    def add(self, place: Place, why: str) -> None:
        """Count one."""
        self.count += 1
        if len(self.named) < self._NAMED:
            self.named.append(f"{place}: {why}")


class Scan:
    """One reader of all dead-letter topics. Use it as `async with`; raises KafkaError."""

    def __init__(self, connection: KafkaConnection, at_once: int = 0) -> None:
        """`at_once`: how many letters are yielded together at the most; 0: as many as is quick."""
        self._connection = connection
        self._at_once = min(at_once or _POLL_RECORDS, _POLL_RECORDS)
        self._consumer: Any = None
        self.raw = ""
        """The topic that events are appended to."""
        self.partitions = 0
        """How many partitions it has."""
        self.ends: Ends = {}
        self.newest = Newest()
        self.unreadable = Unreadable()

    async def __aenter__(self) -> Self:
        self._consumer = AIOKafkaConsumer(
            **self._connection.client_settings(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=4 * MIB,
        )
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def find_ends(self) -> None:
        """Take the topics' present ends as those to read to."""
        known = await self._consumer._client.fetch_all_metadata()  # partitions_for_topic() may be stale
        wanted = [
            TopicPartition(topic, n) for topic in DEAD_LETTERS for n in sorted(known.partitions_for_topic(topic) or ())
        ]
        found = await self._consumer.end_offsets(wanted)
        self.ends = {f"{tp.topic}/{tp.partition}": end for tp, end in found.items()}
        newest = (await read_logs(self._connection)).line[-1]
        self.raw, self.partitions = newest.topic, newest.partitions

    @property
    def records(self) -> int:
        """How many records there are to read, at most."""
        return sum(self.ends.values())

    async def learn_newest(self, since_ms: int = 0) -> None:
        """Read once what was written since then, to learn which events failed again.

        What no replay has touched is not decoded. `since_ms` is before the first replay there ever was; none of its
        letters can stand before.
        """
        for topic in DEAD_LETTERS:
            async for records in self._read(topic, _POLL_RECORDS, since_ms):
                for record in records:
                    if may_have_failed_again(record.value):
                        place = Place(topic, record.partition, record.offset)
                        try:
                            envelope = dead_letter.read(record.value)
                        except EnvelopeError:
                            continue
                        if envelope.attempt > 1:
                            self.newest.learn(place, envelope)

    async def letters(self) -> AsyncGenerator[tuple[list[Letter], Ends], None]:
        """Yield the letters of all events, some thousands at a time, each time with how far was read.

        Call `learn_newest` before. What is no envelope is added to `unreadable`. The next are read while
        whoever has these waits for something.
        """
        async with aclosing(self._letters()) as batches:
            coming = asyncio.ensure_future(anext(batches, None))
            try:
                while (batch := await coming) is not None:
                    coming = asyncio.ensure_future(anext(batches, None))
                    yield batch
            finally:
                coming.cancel()
                with suppress(asyncio.CancelledError):
                    await coming

    async def _letters(self) -> AsyncGenerator[tuple[list[Letter], Ends], None]:
        picked = Letters(self.newest)
        for topic in DEAD_LETTERS:
            async for records in self._read(topic, self._at_once):
                found: list[Letter] = []
                last = {record.partition: record.offset for record in records}
                read_to = {f"{topic}/{number}": offset + 1 for number, offset in last.items()}
                for record in records:
                    place = Place(topic, record.partition, record.offset)
                    try:
                        letter = picked.take(place, dead_letter.read(record.value))
                    except EnvelopeError as error:
                        self.unreadable.add(place, str(error))
                        continue
                    if letter is not None:
                        found.append(letter)
                yield found, read_to

    async def _read(self, topic: str, at_once: int, since_ms: int = 0) -> AsyncGenerator[list[Any], None]:
        ends = {
            TopicPartition(topic, int(name.rpartition("/")[2])): end
            for name, end in self.ends.items()
            if name.startswith(topic + "/")
        }
        consumer = self._consumer
        begins: Mapping[TopicPartition, int] = await consumer.beginning_offsets(list(ends)) if ends else {}
        if since_ms and ends:
            found = await consumer.offsets_for_times(dict.fromkeys(ends, since_ms))
            begins = {tp: max(begins[tp], at.offset) if at is not None else ends[tp] for tp, at in found.items()}
        behind = {tp for tp, end in ends.items() if begins[tp] < end}
        if not behind:
            return
        consumer.assign(behind)
        for tp in behind:
            consumer.seek(tp, begins[tp])
        while behind:
            found = await large_records(
                consumer, *behind, timeout_ms=_POLL_MS, max_records=at_once, max_bytes=_POLL_BYTES
            )
            records = [record for tp, some in found.items() for record in some if record.offset < ends[tp]]
            if records:
                yield records
            done = {tp for tp in behind if await consumer.position(tp) >= ends[tp]}
            behind -= done
            consumer.pause(*done)
