"""A replayed chunk: each event goes on under its first origin and id, and accepts nothing anew."""

import random
from typing import Any

import msgspec
import orjson
import pytest

from processors.claims import ClaimsIndex, decode_entry, encode_entry, entry_key
from processors.map_event import EventMapper
from processors.process_chunk import process
from processors.processed import Processed, SourceRecord
from schemas import avro, chunk, dead_letter, ledger
from schemas.config_history import ConfigHistory
from schemas.ids import EventIds
from schemas.limits import STORE_MAX_MS
from schemas.origin import Origin
from schemas.reasons import Reason
from schemas.topics import CUSTOM_EVENTS

NOW_MS = 1_763_740_001_000
WINDOW_MS = 1_000
GOOD = orjson.dumps({"eventName": "purchase", "user": {"userID": "u"}, "time": NOW_MS})
BAD = orjson.dumps({"eventName": "purchase", "user": {"userID": "u"}, "time": "yesterday"})
FIRST = Origin(1, 2, 7, 3)


def id_of(event: bytes) -> bytes:
    return EventIds("default", "production", "", "r").of(event, 0, has_time=True)


def part(*events: bytes, **fields: Any) -> chunk.RequestPart:
    raw = [msgspec.Raw(event) for event in events]
    return chunk.RequestPart("default", "production", "k", "r", NOW_MS, events=raw, **fields)


def replayed(*events: tuple[bytes, bytes, Origin]) -> chunk.RequestPart:
    """Return (bytes now, id of the first bytes, first origin) as a replay sends them."""
    return part(
        *(event for event, _, _ in events),
        ids={place: event_id.hex() for place, (_, event_id, _) in enumerate(events)},
        firsts={place: chunk.First(first.pack().hex(), 5) for place, (*_, first) in enumerate(events)},
    )


def run(
    *parts: chunk.RequestPart, offset: int, index: ClaimsIndex, append_ms: int = NOW_MS, attempt: int = 0
) -> Processed:
    headers = chunk.replay_headers(1, "the-replay", attempt) if attempt else chunk.headers(1)
    record = SourceRecord(1, 2, offset, append_ms, dict(headers), chunk.encode(chunk.Chunk(list(parts))))
    done = process(record, index, EventMapper(ConfigHistory()), NOW_MS)
    index.claim(offset, append_ms, done.claimed, done.firsts)
    return done


def row_of(done: Processed) -> dict[str, Any]:
    ((mapped, _),) = done.emitted
    assert mapped.topic == CUSTOM_EVENTS
    return avro.CUSTOM_EVENT.decode(avro.unframe(mapped.value)[1])


def test_a_replayed_event_keeps_its_id_and_its_origin_whatever_its_bytes_are_now():
    done = run(replayed((GOOD, id_of(BAD), FIRST)), offset=50, index=ClaimsIndex(WINDOW_MS), attempt=2)
    row = row_of(done)
    assert row["event_id_bytes"] == id_of(BAD)
    assert [row[f"origin_{name}"] for name in FIRST._fields] == list(FIRST)
    assert done.emitted[0][1] == FIRST.pack()


@pytest.mark.parametrize("passed_ms", [0, WINDOW_MS, WINDOW_MS + 1, 10 * WINDOW_MS])
def test_an_event_goes_on_in_each_of_its_replays_and_no_copy_of_it_does_between_them(passed_ms: int):
    index = ClaimsIndex(WINDOW_MS)
    first = run(part(BAD), offset=7, index=index)
    assert [letter.reason for letter in first.dead] == [Reason.INVALID_TIME]
    origin = Origin(1, 2, 7, 0)
    for offset in (50, 51):
        again = run(
            replayed((GOOD, id_of(BAD), origin)), offset=offset, index=index, append_ms=NOW_MS + passed_ms, attempt=2
        )
        assert [packed for _, packed in again.emitted] == [origin.pack()]
        copy = run(part(BAD), offset=offset + 10, index=index, append_ms=NOW_MS + passed_ms)
        assert copy.duplicates == 1


def test_a_replay_yields_to_the_copy_that_owns_the_event_meanwhile_and_the_ledger_says_so():
    index = ClaimsIndex(WINDOW_MS)
    run(part(BAD), offset=7, index=index)
    late = NOW_MS + WINDOW_MS + 1
    assert run(part(BAD), offset=20, index=index, append_ms=late).duplicates == 0
    origin = Origin(1, 2, 7, 0)
    again = run(replayed((GOOD, id_of(BAD), origin)), offset=50, index=index, append_ms=late, attempt=2)
    assert (again.emitted, again.duplicates) == ([], 1)
    assert list(ledger.decode(again.ledger).copied_firsts()) == [origin.pack()]


def test_of_two_origins_of_one_event_in_a_replay_one_goes_on_at_every_reading():
    index = ClaimsIndex(WINDOW_MS)
    other = Origin(255, 2, 9, 0)
    for _ in range(2):
        done = run(replayed((GOOD, id_of(BAD), FIRST), (GOOD, id_of(BAD), other)), offset=50, index=index, attempt=2)
        assert [origin for _, origin in done.emitted] == [FIRST.pack()]
        assert list(ledger.decode(done.ledger).copied_firsts()) == [other.pack()]


def test_a_replay_accepts_nothing():
    record = ledger.decode(run(replayed((GOOD, id_of(BAD), FIRST)), offset=50, index=ClaimsIndex(1), attempt=2).ledger)
    assert (record.runs, record.firsts, record.events) == ([], FIRST.pack(), 1)
    assert ledger.is_of_replay(ledger.encode_replay([FIRST.pack()], [], []))


def test_an_event_that_fails_again_is_the_same_dead_letter_one_attempt_older():
    done = run(replayed((BAD, id_of(BAD), FIRST)), offset=50, index=ClaimsIndex(WINDOW_MS), attempt=3)
    (letter,) = done.dead
    assert (letter.origin, letter.event_id, letter.original) == (FIRST, id_of(BAD), BAD)
    assert (letter.attempt, letter.first_failed_at, letter.replay) == (3, 5, "the-replay")
    assert ledger.decode(done.ledger).dead == [ledger.Dead(0, 1, "invalid_time")]
    assert "firsts" not in orjson.loads(letter.request)


@pytest.mark.parametrize(
    "broken",
    [
        part(GOOD),
        part(GOOD, ids={0: id_of(GOOD).hex()}),
        part(GOOD, ids={0: "00"}, firsts={0: chunk.First(FIRST.pack().hex(), 5)}),
        part(GOOD, ids={0: id_of(GOOD).hex()}, firsts={0: chunk.First(" " * 38, 5)}),
        part(GOOD, GOOD, ids={0: id_of(GOOD).hex()}, firsts={0: chunk.First(FIRST.pack().hex(), 5)}),
        part(BAD, ids={0: id_of(BAD).hex()}, firsts={0: chunk.First(FIRST.pack().hex(), STORE_MAX_MS + 1)}),
        part(BAD, ids={0: id_of(BAD).hex()}, firsts={0: chunk.First(FIRST.pack().hex(), -1)}),
        part(BAD, ids={0: id_of(BAD).hex()}, firsts={0: chunk.First(FIRST.pack().hex(), 2**70)}),
    ],
)
def test_a_forged_replay_without_ids_origins_and_times_is_a_dead_letter_as_a_whole(broken: chunk.RequestPart):
    done = run(broken, offset=50, index=ClaimsIndex(WINDOW_MS), attempt=2)
    assert [letter.reason for letter in done.dead] == [Reason.UNDECODABLE_CHUNK]
    assert dead_letter.read(done.dead[0].encode()).original == chunk.encode(chunk.Chunk([broken]))
    assert (done.emitted, done.claimed) == ([], [])
    assert ledger.decode(done.ledger).events == 1


def test_claims_that_are_read_back_decide_about_replays_as_those_that_were_never_lost():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    index = ClaimsIndex(WINDOW_MS)
    changelog = {}
    events = [orjson.dumps({"eventName": "e", "time": n}) for n in range(6)]
    for offset in range(7, 60):
        append_ms = NOW_MS + offset * 60
        attempt = chance.choice([0, 2])
        chosen = [chance.choice(events) for _ in range(chance.randrange(1, 4))]
        firsts = [Origin(1, 2, chance.randrange(5, offset), chance.randrange(3)) for _ in chosen]
        given = [(event, id_of(event), first) for event, first in zip(chosen, firsts, strict=True)]
        came = replayed(*given) if attempt else part(*chosen)
        rebuilt = ClaimsIndex.rebuild(changelog.values(), WINDOW_MS)
        again = run(came, offset=offset, index=rebuilt, append_ms=append_ms, attempt=attempt)
        done = run(came, offset=offset, index=index, append_ms=append_ms, attempt=attempt)
        assert (done.emitted, done.claimed, done.firsts) == (again.emitted, again.claimed, again.firsts)
        assert done.ledger == again.ledger
        entry = encode_entry(append_ms, done.claimed, done.firsts)
        changelog[offset] = decode_entry(entry_key(1, 2, offset), entry)
