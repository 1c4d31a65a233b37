"""The ledger's record: small, exact, and never guessed at."""

import contextlib
from collections.abc import Mapping
from typing import cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ledger
from schemas.chunk import RequestPart
from schemas.ledger import Copies, Dead, LedgerError, Run
from schemas.limits import CHUNK_EVENTS, LEDGER_NAME_CHARS, RECORD_BYTES, STORE_MAX_MS, TIME_MS
from schemas.origin import Origin
from schemas.reasons import Reason

KEY = ("default", "production", "secret-0123456789")
NOW_MS = 1_763_740_001_000


def part(key: tuple[str, str, str], received_at_ms: int, events: int) -> RequestPart:
    return RequestPart(*key, "r", received_at_ms, events=[msgspec.Raw(b"{}")] * events)


def test_an_ordinary_part_of_a_chunk_takes_60_bytes_at_the_most_whatever_it_holds():
    one, thousand = (ledger.encode(ledger.runs_of([part(KEY, NOW_MS, events)]), [], []) for events in (1, 1_000))
    assert len(one) <= len(thousand) <= 60


def test_requests_of_one_key_and_minute_that_follow_each_other_are_one_run():
    other = ("default", "production", "client-0123456789")
    minute = NOW_MS // 60_000
    last_ms = minute * 60_000 + 59_999
    sent = [(KEY, NOW_MS, 2), (KEY, last_ms, 3), (other, NOW_MS, 1), (KEY, NOW_MS, 4), (KEY, last_ms + 1, 5)]
    found = ledger.runs_of([part(*each) for each in sent])
    assert found == [Run(*KEY, minute, 5), Run(*other, minute, 1), Run(*KEY, minute, 4), Run(*KEY, minute + 1, 5)]
    assert ledger.runs_of([part(KEY, NOW_MS, 0), part(other, NOW_MS, 0)]) == []


@pytest.mark.parametrize("received_at_ms", [0, STORE_MAX_MS])
def test_every_time_that_a_chunk_can_have_comes_back_as_its_minute(received_at_ms: int):
    (run,) = ledger.decode(ledger.encode(ledger.runs_of([part(KEY, received_at_ms, 1)]), [], [])).runs
    assert run.minute == ledger.minute_of(received_at_ms) == received_at_ms // 60_000


@pytest.mark.parametrize("received_at_ms", [-1, TIME_MS + 60_000, 2**63, 2**200])
def test_a_time_that_no_clock_can_mean_is_the_first_minute_of_all(received_at_ms: int):
    assert ledger.minute_of(received_at_ms) == 0


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_names_are_kept_whole_up_to_a_length_that_no_chunk_can_use_to_make_a_record_too_large(more: int):
    name = "é" * (LEDGER_NAME_CHARS + more)
    (run,) = ledger.runs_of([part((name, name, name), NOW_MS, 1)])
    assert run.project == run.environment == run.key_id == name[:LEDGER_NAME_CHARS]


def test_the_worst_that_a_chunk_can_become_fits_into_a_record():
    names = ("p" * RECORD_BYTES, "e", "k")
    dead = [(index, f"{list(Reason)[index % 2].value}") for index in range(0, CHUNK_EVENTS, 2)]
    copies = [Copies(index, 1, 2**60, CHUNK_EVENTS - index) for index in range(1, CHUNK_EVENTS, 2)]
    runs = ledger.runs_of([part(names, NOW_MS, CHUNK_EVENTS)])
    value = ledger.encode(runs, copies, ledger.dead_of(dead))
    assert len(value) < RECORD_BYTES / 20


def test_a_count_without_a_value_counts_one():
    """Whoever writes straight into the log may write such a header; the worker came back to it for ever."""
    headers = cast("Mapping[str, bytes]", {"n": None})
    assert ledger.run_of_unreadable(headers, NOW_MS).events == 1


def test_the_key_is_the_beginning_of_its_events_origins_and_comes_back():
    key = ledger.key_of(3, 2, 2**40)
    assert ledger.coordinate_of(key) == (3, 2, 2**40)
    with pytest.raises(LedgerError):
        ledger.coordinate_of(key + b"\x00")


@pytest.mark.parametrize(
    ("events", "is_read"), [(CHUNK_EVENTS - 1, True), (CHUNK_EVENTS, True), (CHUNK_EVENTS + 1, False)]
)
def test_a_record_that_counts_more_than_a_chunk_holds_is_refused(events: int, is_read: bool):
    value = ledger.encode([Run(*KEY, 1, events)], [], [])
    with contextlib.nullcontext() if is_read else pytest.raises(LedgerError):
        assert ledger.decode(value).events == events


def test_what_the_lander_dropped_names_its_owner():
    owner = Origin(1, 2, 3, 4).pack()
    assert ledger.decode_dropped(ledger.encode_dropped(owner)) == owner


@pytest.mark.parametrize("value", [b"", msgspec.msgpack.encode([2, b"o" * 19]), msgspec.msgpack.encode([1, b"o"])])
def test_what_names_no_owner_in_this_version_is_refused(value: bytes):
    with pytest.raises(LedgerError):
        ledger.decode_dropped(value)


@pytest.mark.parametrize("value", [b"", b"\xff", b"\x94\x01\x90\x90", msgspec.msgpack.encode([2, [], [], []])])
def test_what_is_no_record_of_this_version_is_refused(value: bytes):
    with pytest.raises(LedgerError):
        ledger.decode(value)


def test_a_field_that_a_later_writer_adds_at_the_end_disturbs_no_reader():
    value = msgspec.msgpack.encode([1, [[*KEY, 5, 2]], [], [], b"", [], "more"])
    assert ledger.decode(value).runs == [Run(*KEY, 5, 2)]


@given(st.dictionaries(st.integers(0, 40), st.integers(0, 3)))
def test_joining_dead_letters_loses_nothing(chosen: dict[int, int]):
    dead = [(index, f"reason-{chosen[index]}") for index in sorted(chosen)]
    joined = ledger.decode(ledger.encode([], [], ledger.dead_of(dead))).dead
    assert [(run.first + n, run.reason) for run in joined for n in range(run.count)] == dead


def test_the_place_among_what_a_record_claims_leads_to_the_index_of_the_owner():
    owner = ledger.LedgerRecord(1, [Run(*KEY, 1, 5)], [Copies(1, 2, 1, 0)], [Dead(3, 1, "invalid_time")])
    assert [ledger.index_of_place(owner, place) for place in range(3)] == [0, 3, 4]
    with pytest.raises(LedgerError):
        ledger.index_of_place(owner, 3)
