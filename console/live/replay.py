"""Reads what was before: for a viewer that comes back, and for one who wants to see the last few."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from console.live.positions import FOLLOWED, Positions
from schemas.kafka import KafkaConnection
from schemas.large_records import large_records
from schemas.limits import MIB
from schemas.topics import EXPOSURES

RECORDS_MAX: Final = 10_000
"""More is not read back; what is older counts as missed."""

RECENT_MAX: Final = 2_000
"""So many of the newest exposures are searched for the last ones that a filter wants."""

_RECENT_OTHERS: Final = 200
_AT_ONCE: Final = 250
_TAKEN: Final = 5
_BYTES_MAX: Final = 8 * MIB
_TIME_S: Final = 10.0


Take = Callable[[Sequence[ConsumerRecord]], Awaitable[None]]
"""Is handed the records, a few at a time."""


def window(
    start: Mapping[TopicPartition, int], until: Mapping[TopicPartition, int], records_max: int
) -> tuple[Positions, int]:
    """Cut the ranges [start, until) to their newest `records_max` records; return (start, how many are left out).

    A partition that `start` does not name, or names beyond `until`, has nothing to be read.
    """
    ranges = {partition: max(0, end - start.get(partition, end)) for partition, end in until.items()}
    total = sum(ranges.values())
    kept = min(records_max, total)
    cut = {partition: until[partition] - (count * kept // total if total else 0) for partition, count in ranges.items()}
    return cut, total - sum(until[partition] - at for partition, at in cut.items())


class Replay:
    """Reads ranges of the log, a few at a time."""

    def __init__(self, kafka: KafkaConnection) -> None:
        self._kafka = kafka
        self._slots = asyncio.Semaphore(4)

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[Any]:
        consumer: Any = AIOKafkaConsumer(
            group_id=None, auto_offset_reset="earliest", fetch_max_wait_ms=100, **self._kafka.client_settings()
        )
        async with self._slots, asyncio.timeout(_TIME_S):
            try:
                await consumer.start()
                yield consumer
            finally:
                await consumer.stop()

    async def between(self, start: Positions, until: Positions, take: Take) -> int:
        """Hand over the records in [start, until) that are still there; return how many are not or are too many.

        Raises KafkaError or TimeoutError when the log does not answer.
        """
        async with self._reader() as consumer:
            begins: Positions = await consumer.beginning_offsets(list(until))
            kept = {partition: max(at, begins.get(partition, at)) for partition, at in start.items()}
            gone = sum(kept[partition] - start[partition] for partition in start if partition in until)
            cut, left_out = window(kept, until, RECORDS_MAX)
            await _read(consumer, cut, until, take)
            return gone + left_out

    async def last(self, until: Positions, take: Take) -> None:
        """Hand over about the newest `RECENT_MAX` exposures before `until`, and the newest of the other topics."""
        async with self._reader() as consumer:
            begins: Positions = await consumer.beginning_offsets(list(until))
            cut: Positions = {}
            for topic in FOLLOWED:
                mine = {partition: end for partition, end in until.items() if partition.topic == topic}
                cut |= window(begins, mine, RECENT_MAX if topic == EXPOSURES else _RECENT_OTHERS)[0]
            await _read(consumer, cut, until, take)


async def _read(consumer: Any, start: Positions, until: Positions, take: Take) -> None:
    missing = {each for each, at in start.items() if at < until[each]}
    if not missing:
        return
    consumer.assign(missing)
    for partition in missing:
        consumer.seek(partition, start[partition])
    while missing:
        found = await large_records(
            consumer, *missing, timeout_ms=500, max_records=_AT_ONCE, max_bytes=_BYTES_MAX, at_once=_TAKEN
        )
        for partition, records in found.items():
            await take([record for record in records if record.offset < until[partition]])
        for partition in list(missing):
            if await consumer.position(partition) >= until[partition]:
                missing.discard(partition)
                consumer.pause(partition)
