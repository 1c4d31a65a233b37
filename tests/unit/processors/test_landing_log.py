"""Taking batches from the log: when they are cut, and that nothing between them is lost."""

import pytest
from aiokafka import TopicPartition
from support.landing import FakeRecord, record_at

from processors.landing.batch import Rejected
from processors.landing.dead_letters import dead_letter_of
from processors.landing.fence import Pulse, query_id
from processors.landing.gather import Gathered, Limits
from processors.landing.positions import Positions, RecordsLostError
from schemas.avro import DEAD_LETTER
from schemas.origin import HEADER, Origin
from schemas.reasons import Reason, Stage

P0, P1 = TopicPartition("exposures", 0), TopicPartition("exposures", 1)
LIMITS = Limits(rows=100, size_bytes=1_000, age_s=0.5)


def gathered(count: int = 0, size_bytes: int = 0) -> Gathered:
    return Gathered(count=count, size_bytes=size_bytes)


@pytest.mark.parametrize(
    ("batch", "age_s", "room"),
    [
        (gathered(99), 0.1, 1),
        (gathered(100), 0.1, 0),
        (gathered(101), 0.1, 0),
        (gathered(1, 999), 0.1, 99),
        (gathered(1, 1_000), 0.1, 0),
        (gathered(1), 0.499, 99),
        (gathered(1), 0.5, 0),
    ],
)
def test_a_batch_is_cut_at_rows_bytes_or_age_whichever_comes_first(batch: Gathered, age_s: float, room: int):
    assert LIMITS.leaves(batch, age_s) == room


def test_what_is_committed_is_the_position_after_the_last_record_of_each_partition():
    batch = Gathered()
    batch.add({P0: [FakeRecord(b"ab", offset=5), FakeRecord(b"c", offset=6)], P1: [FakeRecord(None, offset=9)]})
    batch.add({P0: [FakeRecord(b"d", offset=7)]})
    assert batch.first_offsets() == {P0: 5, P1: 9}
    assert batch.next_offsets() == {P0: 8, P1: 10}
    assert (batch.count, batch.size_bytes) == (4, 4)


def test_a_partition_goes_on_where_the_last_batch_ended():
    positions = Positions()
    positions.learn(P0, committed=10, first=10)
    positions.check({P0: 10})
    positions.advance({P0: 25})
    positions.check({P0: 25})
    assert positions.unknown([P0, P1]) == [P1]


def test_records_that_were_deleted_before_they_landed_stop_the_lander():
    positions = Positions()
    positions.learn(P0, committed=10, first=15)
    with pytest.raises(RecordsLostError, match="records 10 to 14 of exposures/0 were deleted"):
        positions.check({P0: 15})


def test_a_group_without_a_commit_begins_where_the_topic_begins():
    positions = Positions()
    positions.learn(P0, committed=None, first=300)
    positions.check({P0: 300})


def test_a_rewound_group_is_no_loss():
    positions = Positions()
    positions.learn(P0, committed=10, first=3)
    positions.check({P0: 3})


def test_a_frozen_process_is_noticed_by_whoever_looks_first(monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr("processors.landing.fence.time.monotonic", lambda: now)
    pulse = Pulse(session_timeout_s=10)
    now = 109.0
    assert pulse.is_alive()
    assert not pulse.beat()
    now = 119.5
    assert not pulse.is_alive()
    assert pulse.beat()
    assert pulse.is_alive()


def test_a_query_id_names_generation_member_and_table():
    assert query_id(7, "m-1", "exposures").split(":")[:4] == ["headrace-lander", "7", "m-1", "exposures"]


def test_a_dead_letter_keeps_the_bytes_and_where_they_stood():
    origin = Origin(1, 3, 1_000, 7)
    record = record_at(origin, offset=77, timestamp=1_700_000_000_000, key=b"u9")
    letter = dead_letter_of(Rejected(record, Reason.INSERT_REFUSED, "too wide"), now_ms=1_700_000_000_500)
    decoded = DEAD_LETTER.decode(letter.encode()[5:])
    assert decoded["original"] == record.value
    assert decoded["origin"] == origin.pack()
    assert decoded["event_id"] == record.value[5:21]
    assert (decoded["stage"], decoded["reason"], decoded["blame"]) == (Stage.LANDER, "insert_refused", "ours")
    assert decoded["chunk_headers"] == {
        HEADER: origin.pack(),
        "source_topic": b"exposures",
        "source_partition": b"3",
        "source_offset": b"77",
    }
    assert (decoded["partition_key"], decoded["attempt"]) == (b"u9", 1)


@pytest.mark.parametrize("value", [None, b"", b"\x00", bytes(range(256))])
def test_garbage_becomes_a_dead_letter_without_an_identity(value: bytes | None):
    record = FakeRecord(value, headers=(("attempt", b"4"), (HEADER, b"short")), key=None)
    letter = dead_letter_of(Rejected(record, Reason.UNDECODABLE_RECORD, "?"), now_ms=1)
    assert (letter.original, letter.origin, letter.event_id, letter.attempt) == (value or b"", None, None, 4)
    letter.encode()
