"""Archived chunks judged once more: as they were the first time, wherever the reading begins."""

import random
from collections.abc import Iterator
from itertools import pairwise

import msgspec
import orjson
import pytest

from processors.claims import ClaimsIndex
from processors.enrich.catalog import Enriching
from processors.map_event import EventMapper
from processors.process_chunk import process
from processors.processed import SourceRecord
from processors.reprocess import Emitted, Known, Reprocessor, Span
from schemas import chunk
from schemas.archive import ArchivedRecord, Place
from schemas.config_history import ConfigHistory
from schemas.ids import EventIds
from schemas.origin import Origin

PLACE = Place(3, 1)
WINDOW_MS = 1_000
STEP_MS = 50
RECORDS = 300
LATE_MS = 400
"""How long before its append an event may have been received."""


def event_of(number: int) -> bytes:
    match number % 11:
        case 0:
            return orjson.dumps({"eventName": None, "time": number, "user": {"userID": "u"}})
        case 1 | 2 | 3:
            metadata = {"config": "button", "ruleID": f"arm{number % 2}"}
            fields = {"eventName": "statsig::config_exposure", "time": number, "metadata": metadata}
            return orjson.dumps({**fields, "user": {"userID": f"u{number % 7}"}})
    return orjson.dumps({"eventName": "buy", "time": number, "user": {"userID": f"u{number % 7}"}})


def day(chance: random.Random) -> Iterator[ArchivedRecord]:
    """Yield chunks of several requests with retries in whatever company, dead events and a replay of them."""
    number = 0
    recent: list[tuple[int, bytes]] = []
    dead: list[tuple[bytes, Origin]] = []
    for offset in range(RECORDS):
        append_ms = 10_000 + offset * STEP_MS
        # A retry comes within the window of the first; whatever comes later is an event again.
        recent = [(at, event) for at, event in recent if append_ms - at < WINDOW_MS - LATE_MS]
        events = []
        for _ in range(chance.randrange(1, 6)):
            if recent and chance.random() < 0.3:
                events.append(chance.choice(recent)[1])
                continue
            number += 1
            events.append(event_of(number))
            recent.append((append_ms, events[-1]))
        if dead and chance.random() < 0.1:
            yield replayed(offset, append_ms, *dead.pop())
            continue
        events = list(dict.fromkeys(events))
        for index, event in enumerate(events):
            if b'"eventName":null' in event:
                dead.append((event, Origin(*PLACE, offset, index)))
        cut = chance.randrange(len(events) + 1)
        received = append_ms - chance.choice((0, 1, LATE_MS))
        parts = [part_of(some, received) for some in (events[:cut], events[cut:]) if some]
        value = chunk.encode(chunk.Chunk(parts))
        yield ArchivedRecord(offset, append_ms, None, value, list(chunk.headers(len(events))))


def part_of(events: list[bytes], received_ms: int) -> chunk.RequestPart:
    return chunk.RequestPart("p", "e", "k", "r", received_ms, events=[msgspec.Raw(event) for event in events])


def replayed(offset: int, append_ms: int, event: bytes, first: Origin) -> ArchivedRecord:
    """Return the chunk of a replay that mends a dead event; it was received when it was received first."""
    part = part_of([event.replace(b"null", b'"mended"')], 10_000 + first.offset * STEP_MS)
    part.ids = {0: EventIds("p", "e", "", "r").of(event, 0, has_time=True).hex()}
    part.firsts = {0: chunk.First(first.pack().hex(), 1)}
    return ArchivedRecord(
        offset, append_ms, None, chunk.encode(chunk.Chunk([part])), list(chunk.replay_headers(1, "r1", 2))
    )


def as_the_worker(records: list[ArchivedRecord]) -> dict[bytes, tuple[str, bytes, bytes]]:
    """Return what the live worker emits over all records, by origin."""
    index, mapper = ClaimsIndex(WINDOW_MS), EventMapper(ConfigHistory(), Enriching())
    found = {}
    for record in records:
        headers = {name: value or b"" for name, value in record.headers}
        source = SourceRecord(*PLACE, record.offset, record.append_ms, headers, record.value or b"")
        done = process(source, index, mapper, 0)
        index.claim(record.offset, record.append_ms, done.claimed, done.firsts)
        found.update({origin: (mapped.topic, mapped.key, mapped.value) for mapped, origin in done.emitted})
    return found


def reprocessor(span: Span) -> Reprocessor:
    return Reprocessor(PLACE, span, WINDOW_MS, Known())


def emitted(records: list[ArchivedRecord], span: Span) -> list[Emitted]:
    again = reprocessor(span)
    warm = [record for record in records if record.append_ms >= span.since - WINDOW_MS]
    return [one for record in warm for one in again.take(record)]


@pytest.mark.parametrize("_turn", range(3))
def test_a_span_gives_the_records_that_the_worker_gave_whenever_it_begins(_turn: int):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    records = list(day(random.Random(seed)))
    live = as_the_worker(records)
    received = {one.origin: one for one in emitted(records, Span(0, 2**40))}
    assert {origin: (one.topic, one.key, one.value) for origin, one in received.items()} == live
    last_ms = records[-1].append_ms
    found: dict[bytes, Emitted] = {}
    edges = [0, *range(11_000, last_ms, 2_345), 2**40]
    for since, until in pairwise(edges):
        span = emitted(records, Span(since, until))
        assert not found.keys() & {one.origin for one in span}, "two spans gave one event"
        found |= {one.origin: one for one in span}
    assert found == received


def test_erased_events_are_counted_apart_and_give_nothing():
    value = chunk.encode(chunk.Chunk([part_of([event_of(5), b"null", event_of(11)], 500)]))
    headers = list(chunk.headers(3))
    again = reprocessor(Span(0, 1_000))
    [one] = again.take(ArchivedRecord(7, 500, None, value, headers, [1]))
    assert one.origin == Origin(*PLACE, 7, 0).pack()
    assert (again.tally.emitted, again.tally.erased, dict(again.tally.dead)) == (1, 1, {"missing_event_name": 1})
    again = reprocessor(Span(0, 1_000))
    first = Origin(1, 0, 4, 2)
    gone = replayed(9, 500, b"null", first)._replace(erased=[0])
    gone_value = (gone.value or b"").replace(b'"mended"', b"null").replace(b"%d" % 10_200, b"%d" % 500)
    assert again.take(gone._replace(value=gone_value)) == []
    assert (again.tally.erased, dict(again.tally.dead)) == (1, {})


def test_garbage_in_the_archive_stops_nothing():
    again = reprocessor(Span(0, 1_000))
    for value in (None, b"", b"\xff", b"{}", b'{"requests":[{}]}'):
        assert again.take(ArchivedRecord(1, 500, None, value, [("chunk", None)])) == []
