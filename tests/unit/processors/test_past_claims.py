"""Claims of logs before the present one: a retry is a copy wherever its first copy stands."""

import random

import pytest

from processors.claims import TOMBSTONE_MARGIN_MS, ClaimsIndex, Entry, entry_key
from processors.past_claims import PastClaims, StaleEntries, partitions_before
from schemas.ids import EVENT_ID_BYTES, partition_of
from schemas.logs import LogRecord
from schemas.origin import Origin

WINDOW_MS = 1_000


def event_id(number: int) -> bytes:
    return number.to_bytes(EVENT_ID_BYTES, "big")


def entry(offset: int, append_ms: int, *numbers: int) -> Entry:
    return Entry(offset, append_ms, b"".join(map(event_id, numbers)))


def replayed(offset: int, append_ms: int, number: int, first: Origin) -> Entry:
    return Entry(offset, append_ms, event_id(number), first.pack())


def test_an_id_of_an_earlier_log_is_owned_for_exactly_the_window_and_its_owner_is_named():
    past = PastClaims({(1, 3): [entry(7, 500, 10, 11, 12)]}, WINDOW_MS)
    ids = [event_id(99), event_id(12), event_id(11), event_id(12)]
    owners = {1: Origin(1, 3, 7, 2), 2: Origin(1, 3, 7, 1), 3: Origin(1, 3, 7, 2)}
    assert past.copies(500 + WINDOW_MS, ids) == owners
    assert past.copies(501 + WINDOW_MS, ids) == {}


def test_of_two_earlier_logs_the_first_owner_counts_unless_it_had_expired_when_the_second_came():
    for came_ms, owner in ((WINDOW_MS, 1), (WINDOW_MS + 1, 2)):
        past = PastClaims({(2, 5): [entry(0, came_ms, 4)], (1, 0): [entry(9, 0, 4)]}, WINDOW_MS)
        found = past.copies(WINDOW_MS, [event_id(4)])
        assert found == {0: Origin(owner, *((0, 9) if owner == 1 else (5, 0)), 0)}


def test_a_replay_goes_on_under_the_origin_of_its_owner_and_under_no_other():
    dead = Origin(1, 2, 30, 4)
    past = PastClaims(
        {(1, 2): [entry(30, 0, 1, 2)], (1, 3): [replayed(8, 0, 3, Origin(255, 0, 6, 0))]},
        WINDOW_MS,
    )
    ids = [event_id(1), event_id(2), event_id(3), event_id(3)]
    firsts = [dead.pack(), Origin(1, 2, 31, 0).pack(), Origin(255, 0, 6, 0).pack(), Origin(255, 0, 7, 0).pack()]
    assert past.copies_of_replayed(10, ids, firsts) == {1: Origin(1, 2, 30, 1), 3: Origin(1, 3, 8, 0)}


@pytest.mark.parametrize(("before", "after"), [(4, 8), (4, 6), (3, 5), (2, 6)])
def test_whatever_partition_a_first_copy_stands_in_the_workers_of_its_retry_read_its_claim(before: int, after: int):
    seed = random.randrange(2**31)
    print(f"seed {seed}")
    chance = random.Random(seed)
    earlier = [LogRecord(1, "events.raw", "a", before, 0)]
    for _ in range(200):
        key = chance.randbytes(8)
        assert partition_of(key, before) in partitions_before({partition_of(key, after)}, after, earlier)
    if after % before == 0:
        assert all(len(partitions_before({number}, after, earlier)) == 1 for number in range(after))


def test_entries_are_forgotten_once_each_when_nothing_can_meet_them_and_not_all_at_once():
    entries = {(1, 0): [entry(offset, 10 * offset, offset) for offset in range(120)], (2, 0): [entry(3, 5_000, 1)]}
    stale = StaleEntries(entries)
    assert stale.gone(0) == []
    found: list[bytes] = []
    while some := stale.gone(1_195):
        assert len(some) < 100
        found += some
    assert found == [entry_key(1, 0, offset) for offset in range(120)]
    assert not stale.are_gone
    assert stale.gone(5_001) == [entry_key(2, 0, 3)]
    assert stale.are_gone


def test_the_horizon_is_that_of_the_oldest_record_that_may_be_read_again():
    index = ClaimsIndex(WINDOW_MS, unsettled=2)
    late_ms = 10 * TOMBSTONE_MARGIN_MS
    assert index.horizon(late_ms) == 0
    index.claim(0, late_ms, [event_id(0)])
    assert index.horizon(late_ms) == 0, "nobody knows what may be read again"
    index.claim(1, late_ms + 5, [event_id(1)])
    assert index.horizon(late_ms + 5) == late_ms - WINDOW_MS - TOMBSTONE_MARGIN_MS
