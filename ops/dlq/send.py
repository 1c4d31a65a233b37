"""Sending what a replay selected: events by the chunk, records as they are, at a rate."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from ops.dlq.reenter import Again, Part
from processors.publish import Flight
from schemas import chunk
from schemas.dead_letter import DeadLetter
from schemas.kafka import PRODUCER, KafkaConnection
from schemas.limits import CHUNK_BYTES, CHUNK_EVENTS, KIB
from schemas.topics import DLQ_INGEST, EVENTS_RAW

_BATCH_BYTES: Final = 512 * KIB


class Pace:
    """Holds sending back to so many events a second; 0 is as fast as it goes."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._began_s = time.monotonic()
        self._sent = 0

    @property
    def step(self) -> int:
        """How many events may be sent at once, 0 for any number: a fifth of a second's."""
        return max(1, self._rate // 5) if self._rate else 0

    async def wait(self, events: int) -> None:
        """Wait until so many more events are due."""
        if not self._rate:
            return
        ahead_s = self._sent / self._rate - (time.monotonic() - self._began_s)
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)
        self._sent += events


class Sender:
    """The producer of a replay. Use it as `async with`; raises KafkaError."""

    def __init__(self, connection: KafkaConnection, replay: str, raw: str = EVENTS_RAW) -> None:
        """`raw` is the topic that events are appended to."""
        self._producer = AIOKafkaProducer(**connection.client_settings(), **PRODUCER, max_batch_size=_BATCH_BYTES)
        self._replay = replay
        self._raw = raw

    async def __aenter__(self) -> "Sender":  # noqa: PYI034 - it is final
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def send(self, entries: Iterable[Part | Again]) -> int:
        """Return how many events were sent, when the broker has all of them."""
        arrivals: list[Any] = []
        events = 0
        parts: dict[tuple[int, int], list[Part]] = {}
        for entry in entries:
            events += len(entry.event_ids)
            if isinstance(entry, Part):
                parts.setdefault((entry.partition, entry.attempt), []).append(entry)
            else:
                arrivals.append(
                    await self._producer.send(
                        entry.topic, entry.value, key=entry.key, partition=entry.partition, headers=entry.headers
                    )
                )
        for (partition, attempt), some in parts.items():
            for run in chunked(some):
                value = b'{"requests":[%b]}' % b",".join(part.json for part in run)
                headers = list(chunk.replay_headers(sum(part.events for part in run), self._replay, attempt))
                arrivals.append(await self._producer.send(self._raw, value, partition=partition, headers=headers))
        await asyncio.gather(*arrivals)
        return events

    async def send_records(self, records: Iterable[Again]) -> None:
        """Return when the broker has every record; their order within a partition is kept."""
        flight = Flight(self._producer.create_batch)
        for record in records:
            flight.add(record.topic, record.partition, record.key, record.value, record.headers)
        arrivals = []
        for (topic, partition), batches in flight.batches.items():
            for batch in batches:
                batch.close()
                arrivals.append(await self._producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*arrivals)

    async def keep(self, letters: Iterable[tuple[int, DeadLetter]]) -> None:
        """Put what the gateway's code refused again back into its topic; return when the broker has it."""
        await asyncio.gather(
            *[
                await self._producer.send(DLQ_INGEST, letter.encode(), partition=partition)
                for partition, letter in letters
            ]
        )

    async def write(self, topic: str, key: bytes, value: bytes) -> None:
        """Write one record and wait for it."""
        await self._producer.send_and_wait(topic, value, key=key)


def chunked(parts: list[Part]) -> Iterable[list[Part]]:
    """Cut parts of one partition into chunks of no more than a chunk's events and bytes; one part is always taken."""
    run: list[Part] = []
    events = size_bytes = 0
    for part in parts:
        if run and (events + part.events > CHUNK_EVENTS or size_bytes + len(part.json) > CHUNK_BYTES):
            yield run
            run, events, size_bytes = [], 0, 0
        run.append(part)
        events += part.events
        size_bytes += len(part.json)
    if run:
        yield run
