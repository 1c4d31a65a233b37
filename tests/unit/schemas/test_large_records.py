"""Of records that strangers make large no more are taken than there is room for, however well they were compressed."""

from typing import Any

import pytest
from aiokafka import TopicPartition
from support.landing import FakeRecord

from schemas.large_records import large_records

PARTITIONS = (TopicPartition("dlq.ingest", 0), TopicPartition("dlq.ingest", 1))


class Log:
    """What a consumer has fetched, by partition: the sizes of values, None for a tombstone."""

    def __init__(self, *fetched: list[int | None]) -> None:
        self._fetched = dict(zip(PARTITIONS, fetched, strict=True))
        self.waits_ms: list[int] = []

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[Any]]:
        self.waits_ms.append(timeout_ms)
        for partition in partitions or PARTITIONS:
            if sizes := self._fetched[partition]:
                some, self._fetched[partition] = sizes[:max_records], sizes[max_records:]
                return {partition: [FakeRecord(None if size is None else bytes(size)) for size in some]}
        return {}


async def taken(log: Log, *partitions: TopicPartition, records: int = 100, size_bytes: int = 1_000) -> list[int]:
    found = await large_records(log, *partitions, timeout_ms=7, max_records=records, max_bytes=size_bytes)
    return [len(found.get(partition, [])) for partition in PARTITIONS]


@pytest.mark.parametrize(("last", "count"), [(399, 4), (400, 3), (401, 3)])
async def test_no_more_is_taken_once_there_are_so_many_bytes(last: int, count: int):
    log = Log([300, 300, last, 5_000], [])
    assert await taken(log) == [count, 0]
    assert await taken(log) == [4 - count, 0]


async def test_no_more_is_taken_than_so_many_records_and_tombstones_are_records():
    assert await taken(Log([None] * 5, [1] * 5), records=7) == [5, 2]


async def test_what_is_there_is_not_waited_for_and_what_is_not_there_is_waited_for_once():
    log = Log([1], [1])
    assert await taken(log) == [1, 1]
    assert log.waits_ms == [7, 0, 0]
    assert await taken(log) == [0, 0]


async def test_only_the_partitions_that_are_asked_for_are_read():
    assert await taken(Log([1], [1]), PARTITIONS[1]) == [0, 1]


async def test_records_that_are_alike_are_taken_in_few_looks_and_large_ones_one_by_one():
    log = Log([10] * 1_000, [])
    assert await taken(log, records=1_000, size_bytes=100_000) == [1_000, 0]
    assert len(log.waits_ms) < 20
    log = Log([600] * 3, [])
    assert await taken(log) == [2, 0]
    assert len(log.waits_ms) == 2


async def test_large_records_behind_small_ones_are_bounded_in_number():
    assert await taken(Log([10, *[5_000] * 1_000], []), records=1_000) == [1 + 64, 0]
