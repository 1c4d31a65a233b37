"""A lander stops before it fills its dead letters with what a bad deploy refused."""

import pytest
from aiokafka import TopicPartition
from support.landing import FakeRecord

from processors.burst_guard import IN_A_ROW
from processors.landing.batch import Rejected
from processors.landing.bursts import Bursts
from processors.landing.gather import Gathered
from schemas.reasons import Reason


def batch(counts: dict[int, int], first: int = 0) -> Gathered:
    """Return so many records for each partition, from the offset `first` on."""
    gathered = Gathered()
    for number, count in counts.items():
        records = [FakeRecord(b"", offset=offset) for offset in range(first, first + count)]
        gathered.add({TopicPartition("exposures", number): records})
    return gathered


def refused(gathered: Gathered, partition: int, count: int, reason: Reason) -> list[Rejected]:
    records = gathered.records[TopicPartition("exposures", partition)][:count]
    return [Rejected(record, reason, "no such column") for record in records]


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_it_stops_when_two_hundred_records_of_one_partition_in_a_row_are_refused_through_us(over: int):
    gathered = batch({0: 500, 1: IN_A_ROW + over})
    why = Bursts().judge(gathered, refused(gathered, 1, IN_A_ROW + over, Reason.INSERT_REFUSED))
    assert (why is not None) == (over >= 0)
    if why is not None:
        assert why.startswith("exposures: partition 1 is stopped")
        assert "no such column" in why
        assert "HEADRACE_BURST_GUARD=false" in why


def test_rows_go_on_being_counted_from_batch_to_batch():
    bursts, half = Bursts(), IN_A_ROW // 2
    for first, goes_on in ((0, True), (half, False)):
        gathered = batch({0: half}, first)
        assert (bursts.judge(gathered, refused(gathered, 0, half, Reason.UNKNOWN_SCHEMA)) is None) == goes_on


def test_a_batch_that_comes_again_after_a_rebalance_is_not_counted_again():
    bursts, few = Bursts(), IN_A_ROW - 1
    for _ in range(3):
        gathered = batch({0: few})
        assert bursts.judge(gathered, refused(gathered, 0, few, Reason.INSERT_REFUSED)) is None
    longer = batch({0: few + 1})
    assert bursts.judge(longer, refused(longer, 0, few + 1, Reason.INSERT_REFUSED)) is not None


def test_garbage_that_strangers_write_stops_nothing():
    gathered = batch({0: 5_000})
    assert Bursts().judge(gathered, refused(gathered, 0, 5_000, Reason.UNDECODABLE_RECORD)) is None


def test_a_batch_that_stopped_it_stops_it_again_when_it_comes_again():
    bursts, gathered = Bursts(), batch({0: IN_A_ROW})
    rejected = refused(gathered, 0, IN_A_ROW, Reason.INSERT_REFUSED)
    assert [bursts.judge(gathered, rejected) is None for _ in range(2)] == [False, False]
