"""Reads what was before: for a viewer that comes back, and for one who wants to see the last few."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from console.live.positions import Positions
from schemas.kafka import KafkaConnection
from schemas.topics import EXPOSURES

RECORDS_MAX: Final = 10_000
"""More is not read back; what is older counts as missed."""

_TIME_S: Final = 10.0


def window(start: Mapping[int, int], until: Mapping[int, int], records_max: int) -> tuple[Positions, int]:
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

    async def between(self, start: Positions, until: Positions) -> tuple[Sequence[ConsumerRecord], int]:
        """Return the records in [start, until) that are still there, and how many are not or are too many.

        Raises KafkaError or TimeoutError when the log does not answer.
        """
        async with self._reader() as consumer:
            begins = await _beginnings(consumer, until)
            kept = {partition: max(at, begins.get(partition, at)) for partition, at in start.items()}
            gone = sum(kept[partition] - start[partition] for partition in start if partition in until)
            cut, left_out = window(kept, until, RECORDS_MAX)
            return await _read(consumer, cut, until), gone + left_out

    async def last(self, count: int, until: Positions) -> Sequence[ConsumerRecord]:
        """Return about the newest `count` records before `until`."""
        async with self._reader() as consumer:
            begins = await _beginnings(consumer, until)
            cut, _ = window(begins, until, count)
            return await _read(consumer, cut, until)


async def _beginnings(consumer: Any, until: Positions) -> Positions:
    partitions = [TopicPartition(EXPOSURES, partition) for partition in until]
    begins = await consumer.beginning_offsets(partitions)
    return {partition.partition: offset for partition, offset in begins.items()}


async def _read(consumer: Any, start: Positions, until: Positions) -> list[ConsumerRecord]:
    missing = {TopicPartition(EXPOSURES, each) for each, at in start.items() if at < until[each]}
    if not missing:
        return []
    consumer.assign(missing)
    for partition in missing:
        consumer.seek(partition, start[partition.partition])
    records: list[ConsumerRecord] = []
    while missing:
        for partition, found in (await consumer.getmany(*missing, timeout_ms=500)).items():
            records += [record for record in found if record.offset < until[partition.partition]]
        for partition in list(missing):
            if await consumer.position(partition) >= until[partition.partition]:
                missing.discard(partition)
    return records
