"""Reading a batch: every record is a row, rejected, or of an unknown schema; nothing is lost."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.landing import FakeRecord, custom_event_at, exposure_at, id_of, record_at

from processors.landing.batch import ASTRAY, REPLAYED, Batch, read
from processors.landing.dead_letters import dead_letter_of
from processors.landing.tables import BY_TOPIC
from schemas.avro import CUSTOM_EVENT, DEAD_LETTER, unframe
from schemas.origin import HEADER, Origin
from schemas.reasons import Reason

EXPOSURES = BY_TOPIC["exposures"]
ORIGIN = Origin(1, 3, 1_000, 7)


def read_one(record: FakeRecord) -> Batch:
    batch = Batch()
    read([record], EXPOSURES, into=batch)
    return batch


def test_a_row_has_the_origin_of_the_header_and_the_event_id_of_the_body():
    [row] = read_one(record_at(ORIGIN)).rows
    assert (row.origin, row.event_id, row.doubt) == (ORIGIN.pack(), id_of(ORIGIN), 0)
    assert EXPOSURES.schema.decode(row.body)["origin_offset"] == 1_000


@pytest.mark.parametrize("header", ["replay", "spilled"])
def test_a_replayed_or_spilled_record_must_be_looked_up_by_its_event_id(header: str):
    record = record_at(ORIGIN, headers=((HEADER, ORIGIN.pack()), (header, b"1")))
    assert read_one(record).rows[0].doubt == REPLAYED


def test_a_record_in_another_partition_than_its_origin_is_in_doubt():
    assert read_one(record_at(ORIGIN, partition=2)).rows[0].doubt == ASTRAY


def test_an_unknown_header_changes_nothing():
    record = record_at(ORIGIN, headers=(("trace", b"x"), (HEADER, ORIGIN.pack())))
    assert read_one(record).rows[0].doubt == 0


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (record_at(ORIGIN, value=None), "tombstone"),
        (record_at(ORIGIN, value=b""), "0x00"),
        (record_at(ORIGIN, value=b"\x01\x00\x00\x00\x01garbage"), "0x00"),
        (record_at(ORIGIN, value=b'{"a": 1}'), "0x00"),
        (record_at(ORIGIN, headers=()), "no header `origin`"),
        (record_at(ORIGIN, headers=(("attempt", b"9" * 10),)), "no header `origin`"),
        (record_at(ORIGIN, headers=((HEADER, None),)), "no header `origin`"),  # Kafka has headers without a value
        (record_at(ORIGIN, headers=((HEADER, None), ("trace", None))), "no header `origin`"),
        (record_at(ORIGIN, headers=((HEADER, b"short"),)), "5 bytes, not 19"),
        (record_at(ORIGIN, headers=((HEADER, Origin(1, 3, 1_000, 8).pack()),)), "record's own origin"),
        (record_at(ORIGIN, headers=((HEADER, Origin(1, 3, 1_001, 7).pack()),)), "record's own origin"),
        (record_at(ORIGIN, value=exposure_at(ORIGIN)[:21]), "record's own origin"),
    ],
)
def test_what_cannot_be_read_is_rejected_with_the_reason(record: FakeRecord, message: str):
    batch = read_one(record)
    [rejected] = batch.rejected
    assert rejected.reason is Reason.UNDECODABLE_RECORD
    assert message in rejected.message
    assert rejected.record is record
    assert not batch.rows
    letter = DEAD_LETTER.decode(unframe(dead_letter_of(rejected, 5).encode())[1])
    assert (letter["original"], letter["attempt"]) == (record.value or b"", 1)


def test_a_framed_record_of_another_schema_is_left_to_the_registry():
    batch = read_one(record_at(ORIGIN, value=custom_event_at(ORIGIN)))
    assert [unknown.schema_id for unknown in batch.unknown] == [CUSTOM_EVENT.id]


def test_records_after_a_bad_one_are_read_with_their_own_origins():
    origins = [Origin(1, 0, offset, index) for offset in (5, 6) for index in range(3)]
    records = [record_at(origin) for origin in origins]
    records.insert(2, record_at(ORIGIN, value=b"garbage"))
    batch = Batch()
    read(records, EXPOSURES, into=batch)
    assert [row.origin for row in batch.rows] == [origin.pack() for origin in origins]
    assert len(batch.rejected) == 1


origins = st.builds(
    Origin,
    log=st.integers(0, 255),
    partition=st.integers(0, 2**31 - 1),
    offset=st.integers(0, 2**62),
    index=st.integers(0, 5_000),
    part=st.integers(0, 300),
)


@given(origins)
def test_every_origin_that_the_worker_can_write_is_recognised(origin: Origin):
    assert len(read_one(record_at(origin)).rows) == 1


@given(st.lists(st.one_of(origins.map(record_at), st.binary(max_size=40).map(lambda v: record_at(ORIGIN, value=v)))))
def test_inputs_are_rows_and_rejected_and_unknown_together(records: list[FakeRecord]):
    batch = Batch()
    read(records, EXPOSURES, into=batch)
    assert len(batch.rows) + len(batch.rejected) + len(batch.unknown) == len(records)


def test_a_value_is_never_changed():
    value = exposure_at(ORIGIN, metadata=os.urandom(8).hex())
    assert read_one(record_at(ORIGIN, value=value)).rows[0].value is value
