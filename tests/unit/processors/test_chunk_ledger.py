"""The ledger's record of a chunk: what was not emitted, by whose fault, and the same at every reading."""

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.claims import ClaimsIndex, decode_entry, encode_entry, entry_key
from processors.map_event import EventMapper
from processors.process_chunk import Processed, SourceRecord, process
from schemas import chunk, ledger
from schemas.config_history import ConfigHistory
from schemas.ledger import Copies, Dead, LedgerRecord, Run, index_of_place
from schemas.limits import CHUNK_EVENTS
from schemas.origin import Origin
from schemas.reasons import Reason

RECEIVED_MS = 1_763_740_001_000
MINUTE = RECEIVED_MS // 60_000

# Small numbers, so that most are copies; the negative ones are dead.
numbers = st.integers(-2, 6)
requests = st.lists(st.tuples(st.sampled_from(["key-a", "key-b"]), st.lists(numbers, max_size=6)), max_size=4)


def event(number: int) -> bytes:
    return orjson.dumps({"eventName": "purchase", "time": number if number >= 0 else f"day {number}"})


def record_of(offset: int, sent: list[tuple[str, list[int]]]) -> SourceRecord:
    parts = [
        chunk.RequestPart(
            project="default",
            environment="production",
            key_id=key_id,
            request_id="r",
            received_at=RECEIVED_MS,
            events=[msgspec.Raw(event(number)) for number in mine],
        )
        for key_id, mine in sent
    ]
    value = chunk.encode(chunk.Chunk(parts))
    return SourceRecord(1, 2, offset, RECEIVED_MS + offset, dict(chunk.headers(1)), value)


def take(record: SourceRecord, index: ClaimsIndex) -> Processed:
    done = process(record, index, EventMapper(ConfigHistory()), RECEIVED_MS)
    index.claim(record.offset, record.append_ms, done.claimed)
    return done


def copied(record: LedgerRecord) -> dict[int, tuple[int, int]]:
    return {run.first + n: (run.back, run.place + n) for run in record.copies for n in range(run.count)}


def dead(record: LedgerRecord) -> dict[int, str]:
    return {run.first + n: run.reason for run in record.dead for n in range(run.count)}


@given(st.lists(requests, min_size=1, max_size=6))
def test_the_record_names_each_event_that_was_not_emitted_and_the_owner_of_each_copy(
    chunks: list[list[tuple[str, list[int]]]],
):
    index = ClaimsIndex(1_000_000)
    written: list[LedgerRecord] = []
    sent: list[list[int]] = []
    for offset, requests_of_chunk in enumerate(chunks):
        done = take(record_of(offset, requests_of_chunk), index)
        record = ledger.decode(done.ledger)
        written.append(record)
        sent.append([number for _, mine in requests_of_chunk for number in mine])
        assert record.events == done.events == len(sent[-1])
        assert len(copied(record)) == done.duplicates
        assert dead(record) == {letter.origin.index: letter.reason.value for letter in done.dead if letter.origin}
        emitted = {Origin.unpack(origin).index for _, origin in done.emitted}
        assert emitted == set(range(done.events)) - set(copied(record)) - set(dead(record))
        for at, (back, place) in copied(record).items():
            owner = offset - back
            assert sent[owner][index_of_place(written[owner], place)] == sent[offset][at]


@given(st.lists(requests, min_size=1, max_size=5), st.integers(0, 5))
def test_a_chunk_that_is_read_again_gives_the_same_record(chunks: list[list[tuple[str, list[int]]]], start: int):
    """After a kill the claims are rebuilt, and what was not committed is read again."""
    index, changelog, first = ClaimsIndex(1_000_000), {}, []
    records = [record_of(offset, sent) for offset, sent in enumerate(chunks)]
    for record in records:
        done = take(record, index)
        first.append(done.ledger)
        entry = encode_entry(record.append_ms, done.claimed)
        changelog[record.offset] = decode_entry(entry_key(1, 2, record.offset), entry)
    rebuilt = ClaimsIndex.rebuild(changelog.values(), 1_000_000)
    assert [take(record, rebuilt).ledger for record in records[start:]] == first[start:]


def test_a_request_that_was_sent_again_is_one_entry_whatever_stands_around_it():
    index = ClaimsIndex(1_000)
    take(record_of(3, [("key-a", [200, *range(50)])]), index)
    done = take(record_of(7, [("key-a", [99, *range(50), 98])]), index)
    assert ledger.decode(done.ledger).copies == [Copies(1, 50, 4, 1)]


def test_the_runs_are_the_requests_in_the_order_of_the_chunk():
    done = take(record_of(7, [("key-a", [1, 2]), ("key-a", [3]), ("key-b", [4])]), ClaimsIndex(1_000))
    runs = [("key-a", 3), ("key-b", 1)]
    assert ledger.decode(done.ledger).runs == [Run("default", "production", key, MINUTE, n) for key, n in runs]


@pytest.mark.parametrize(
    ("header", "events"),
    [
        (b"17", 17),
        (b"%d" % CHUNK_EVENTS, CHUNK_EVENTS),
        (b"%d" % (CHUNK_EVENTS + 1), 1),
        (b"0", 1),
        (b"-3", 1),
        ("٣".encode(), 1),
        (b"9" * 5_000, 1),
        (None, 1),
    ],
)
def test_a_chunk_that_nobody_can_read_counts_what_its_header_says_or_one(header: bytes | None, events: int):
    headers = {} if header is None else {chunk.COUNT_HEADER: header}
    done = process(
        SourceRecord(1, 2, 7, RECEIVED_MS, headers, b"\x00"), ClaimsIndex(1_000), EventMapper(ConfigHistory()), 0
    )
    record = ledger.decode(done.ledger)
    assert record.runs == [Run("", "", "", MINUTE, events)]
    assert record.dead == [Dead(0, events, Reason.UNDECODABLE_CHUNK)]


def test_a_chunk_without_events_has_a_record_too():
    assert ledger.decode(take(record_of(7, []), ClaimsIndex(1_000)).ledger).events == 0
