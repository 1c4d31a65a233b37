"""Claims: an id belongs to the first record that holds it, whatever is restarted in between."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.claims import (
    TOMBSTONE_MARGIN_MS,
    ClaimsIndex,
    CorruptClaimsError,
    Entry,
    decode_entry,
    encode_entry,
    entry_key,
)

WINDOW_MS = 1_000
LONGEST_MS = WINDOW_MS + TOMBSTONE_MARGIN_MS


def event_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def take(index: ClaimsIndex, offset: int, append_ms: int, ids: list[bytes]) -> list[bool]:
    """Decide and claim as the worker does; True where the event is emitted."""
    copies = index.copies(offset, append_ms, ids)
    emitted = [place not in copies for place in range(len(ids))]
    index.claim(offset, append_ms, [i for i, emit in zip(ids, emitted, strict=True) if emit])
    return emitted


def test_the_first_record_with_an_id_owns_it():
    index = ClaimsIndex(WINDOW_MS)
    assert take(index, 0, 0, [event_id(1), event_id(2)]) == [True, True]
    assert take(index, 1, 1, [event_id(2), event_id(3)]) == [False, True]


def test_an_id_repeated_inside_a_record_is_emitted_once():
    assert take(ClaimsIndex(WINDOW_MS), 0, 0, [event_id(1), event_id(1)]) == [True, False]


def test_a_record_that_is_read_again_is_emitted_again():
    index = ClaimsIndex(WINDOW_MS)
    ids = [event_id(1), event_id(2), event_id(1)]
    first = take(index, 5, 0, ids)
    take(index, 6, 1, [event_id(3)])
    assert take(index, 5, 0, ids) == first


@pytest.mark.parametrize(("age_ms", "is_copy"), [(WINDOW_MS - 1, True), (WINDOW_MS, True), (WINDOW_MS + 1, False)])
def test_an_id_is_owned_for_exactly_the_window(age_ms: int, is_copy: bool):
    index = ClaimsIndex(WINDOW_MS)
    take(index, 0, 0, [event_id(1)])
    assert take(index, 1, age_ms, [event_id(1)]) == [not is_copy]


def test_an_expired_entry_is_forgotten_and_named_for_its_tombstone():
    index = ClaimsIndex(WINDOW_MS, unsettled=1)
    take(index, 3, 0, [event_id(1)])
    take(index, 4, 5, [event_id(2)])
    for offset, append_ms, gone in ((5, LONGEST_MS, []), (6, LONGEST_MS + 1, [3])):
        take(index, offset, append_ms, [])
        assert index.expire(append_ms) == gone
    assert len(index) == 1


@pytest.mark.parametrize("unsettled", [2, 5])
def test_an_entry_is_kept_while_a_record_that_meets_it_may_be_read_again(unsettled: int):
    """A worker that catches up after hours without traffic, or without itself, reads records of far
    apart times within one commit; killed then, it must find the same owners for the older ones."""
    index = ClaimsIndex(WINDOW_MS, unsettled)
    take(index, 0, 0, [event_id(1)])
    assert take(index, 1, WINDOW_MS, [event_id(1)]) == [False]
    for newer in range(unsettled - 1):
        take(index, 2 + newer, 2 * LONGEST_MS, [])
        assert index.expire(2 * LONGEST_MS) == []
        assert take(index, 1, WINDOW_MS, [event_id(1)]) == [False]
    take(index, 100, 2 * LONGEST_MS, [])
    assert index.expire(2 * LONGEST_MS) == [0, 1]


def test_what_may_be_read_again_is_known_after_a_restart():
    entries = [Entry(0, 0, event_id(1)), Entry(1, WINDOW_MS, b"")]
    index = ClaimsIndex.rebuild(entries, WINDOW_MS, unsettled=2)
    take(index, 2, 2 * LONGEST_MS, [])
    assert index.expire(2 * LONGEST_MS) == []
    take(index, 3, 2 * LONGEST_MS, [])
    assert index.expire(2 * LONGEST_MS) == [0, 1]


def test_a_record_that_comes_behind_a_later_one_owns_its_ids_all_the_same():
    """Whoever reads a partition again may meet claims of later records, and none of its own."""
    index = ClaimsIndex(WINDOW_MS, unsettled=1)
    take(index, 9, 9, [event_id(9)])
    assert take(index, 5, 5, [event_id(5), event_id(9)]) == [True, False]
    assert take(index, 6, 6, [event_id(5), event_id(6)]) == [False, True]
    assert take(index, 5, 5, [event_id(5), event_id(9)]) == [True, False]
    assert index.copies(10, 10, [event_id(5), event_id(6), event_id(9)]) == {0: 5, 1: 6, 2: 9}
    assert [index.claimed_by(owner) for owner in (9, 5, 6)] == [event_id(9), event_id(5), event_id(6)]
    take(index, 11, LONGEST_MS + 10, [])
    assert sorted(index.expire(LONGEST_MS + 10)) == [5, 6, 9]
    assert len(index) == 0


def test_places_of_many_expired_records_are_given_back():
    index = ClaimsIndex(WINDOW_MS, unsettled=1)
    ids = [number.to_bytes(16, "little") for number in range(5_000)]
    for offset, one in enumerate(ids):
        take(index, offset, offset * 10_000, [one])
        index.expire(offset * 10_000)
    assert len(index._ids) < 4_000
    assert index.claimed_by(4_999) == ids[4_999]
    with pytest.raises(KeyError):
        index.claimed_by(0)


def test_an_entry_comes_back_as_it_was_written():
    ids = [event_id(n) for n in range(3)]
    entry = decode_entry(entry_key(1, 7, 2**40), encode_entry(1_763_740_000_000, ids))
    assert entry == Entry(2**40, 1_763_740_000_000, b"".join(ids))


@pytest.mark.parametrize("damage", ["cut", "flip", "version", "key"])
def test_a_damaged_entry_is_never_taken_for_a_claim(damage: str):
    key, value = entry_key(1, 0, 1), encode_entry(5, [event_id(1), event_id(2)])
    if damage == "cut":
        value = value[:-1]
    elif damage == "flip":
        value = value[:-1] + bytes([value[-1] ^ 1])
    elif damage == "version":
        value = b"\x09" + value[1:]
    else:
        key = key[:-1]
    with pytest.raises(CorruptClaimsError):
        decode_entry(key, value)


records = st.lists(st.tuples(st.integers(0, 400), st.lists(st.integers(0, 12), max_size=6)), min_size=1, max_size=30)


@given(records, st.randoms(use_true_random=False))
def test_a_worker_that_restarts_anywhere_decides_as_one_that_never_stopped(
    steps: list[tuple[int, list[int]]], chance: random.Random
):
    """Rebuilding from the entries, in any order and after any record, changes no later verdict."""
    steady, restarted = ClaimsIndex(WINDOW_MS, unsettled=1), ClaimsIndex(WINDOW_MS, unsettled=1)
    changelog: dict[int, Entry] = {}
    clock = 0
    for offset, (pause, numbers) in enumerate(steps):
        clock += pause
        ids = [event_id(number) for number in numbers]
        expected = take(steady, offset, clock, ids)
        assert take(restarted, offset, clock, ids) == expected
        claimed = [i for i, emit in zip(ids, expected, strict=True) if emit]
        changelog[offset] = decode_entry(entry_key(1, 0, offset), encode_entry(clock, claimed))
        for gone in steady.expire(clock):
            del changelog[gone]
        if chance.random() < 0.4:
            entries = list(changelog.values())
            chance.shuffle(entries)
            restarted = ClaimsIndex.rebuild(entries, WINDOW_MS, unsettled=1)
