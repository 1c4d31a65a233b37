"""What the ledger reads in the log is counted as the stages count it."""

from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.ledger.balance import Balance, Coordinate, Counts, Flaw, Landed
from console.ledger.envelopes import refused_at_gateway, refused_at_lander
from console.ledger.log import holes
from console.ledger.raw import accepted_of
from console.ledger.weigh import LogSide, slices, weigh
from schemas import chunk, ledger
from schemas.dead_letter import DeadLetter
from schemas.ledger import Dead, Run
from schemas.origin import Origin
from schemas.reasons import Reason, Stage

NOW_MS = 1_763_740_001_000
MINUTE = NOW_MS // 60_000
RUN = Run("default", "production", "k", MINUTE, 3)
AT = Coordinate(1, 0, 7)


@dataclass
class FakeRecord:
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int = 0
    offset: int = 7
    timestamp: int = NOW_MS


@given(st.sets(st.integers(0, 60)), st.integers(0, 60), st.integers(0, 60))
def test_holes_are_all_that_is_not_known(known: set[int], begin: int, end: int):
    found = holes(sorted(known), begin, end)
    assert [at for first, last in found for at in range(first, last)] == sorted(set(range(begin, end)) - known)
    assert all(first < last for first, last in found)


def part(events: int) -> chunk.RequestPart:
    return chunk.RequestPart("default", "production", "k", "r", NOW_MS, events=[msgspec.Raw(b"{}")] * events)


def test_a_chunk_that_the_worker_has_not_read_yet_is_told_by_its_own_record():
    value = chunk.encode(chunk.Chunk([part(1), part(2)]))
    found = accepted_of(AT, FakeRecord(value, chunk.headers(3)), is_judged=False)
    assert (found.at, found.runs, found.is_judged) == (AT, [RUN], False)


def replayed(events: int, named: int) -> chunk.RequestPart:
    first = chunk.First(Origin(1, 0, 3, 0).pack().hex(), NOW_MS)
    ids = dict.fromkeys(range(named), bytes(16).hex())
    return msgspec.structs.replace(part(events), ids=ids, firsts=dict.fromkeys(range(named), first))


def test_what_comes_again_in_a_replay_is_not_accepted_again():
    value = chunk.encode(chunk.Chunk([replayed(2, 2)]))
    assert accepted_of(AT, FakeRecord(value, chunk.replay_headers(2, "r", 2)), is_judged=False).runs == []


def test_a_forged_replay_counts_as_the_worker_counts_it():
    value = chunk.encode(chunk.Chunk([replayed(2, 1)]))
    found = accepted_of(AT, FakeRecord(value, chunk.replay_headers(2, "r", 2)), is_judged=False)
    assert found.runs == [Run("", "", "", MINUTE, 2)]


@pytest.mark.parametrize("headers", [chunk.headers(9), ((chunk.VERSION_HEADER, b"2"), (chunk.COUNT_HEADER, b"9"))])
@pytest.mark.parametrize("value", [b"\x00", None])
def test_a_chunk_that_nobody_can_read_counts_what_its_header_says(
    headers: tuple[tuple[str, bytes], ...], value: bytes | None
):
    found = accepted_of(AT, FakeRecord(value, headers), is_judged=False)
    assert found.runs == [Run("", "", "", MINUTE, 9)]


def letter(stage: Stage, origin: Origin | None = None) -> bytes:
    key = {"project": "default", "environment": "production", "key_id": "k", "received_at": NOW_MS}
    return DeadLetter(stage, Reason.EVENT_TOO_DEEP, "", b"{}", NOW_MS, origin, **key).encode()  # type: ignore[arg-type]


def test_what_the_gateway_refused_is_accepted_and_dead_where_its_letter_stands():
    found = refused_at_gateway(FakeRecord(letter(Stage.INGEST), partition=2, offset=5))
    assert found is not None
    assert (found.at, found.dead) == (Coordinate(255, 2, 5), {Reason.EVENT_TOO_DEEP: 1})
    assert found.runs == [Run("default", "production", "k", MINUTE, 1)]


def test_what_was_refused_again_was_accepted_where_it_came_from():
    assert refused_at_gateway(FakeRecord(letter(Stage.INGEST, Origin(1, 0, 3, 4)))) is None


@pytest.mark.parametrize("value", [b"", b"\x00\xff", None, letter(Stage.INGEST)[:-1]])
def test_what_is_no_letter_is_an_event_of_nobody_to_the_gateway_and_none_to_the_lander(value: bytes | None):
    found = refused_at_gateway(FakeRecord(value))
    assert found is not None
    assert found.runs == [Run("", "", "", MINUTE, 1)]
    assert refused_at_lander(FakeRecord(value)) is None


def test_what_the_lander_refused_is_dead_by_its_origin_but_not_its_secondary_exposures():
    assert refused_at_lander(FakeRecord(letter(Stage.LANDER, Origin(1, 0, 3, 4)))) == (
        Origin(1, 0, 3, 4),
        Reason.EVENT_TOO_DEEP,
    )
    assert refused_at_lander(FakeRecord(letter(Stage.LANDER, Origin(1, 0, 3, 4, 1)))) is None
    assert refused_at_lander(FakeRecord(letter(Stage.LANDER))) is None


def balance_of(side: LogSide, landed: dict[Coordinate, Landed]) -> Balance:
    balance = Balance(0)
    for chunks in slices(side):
        first, last = chunks[0].at, chunks[-1].at
        assert {(one.at.log, one.at.partition) for one in chunks} == {first[:2]}
        found = {at.offset: rows for at, rows in landed.items() if first <= at <= last and at[:2] == first[:2]}
        weigh(balance, side, chunks, found)
    return balance


def side_of(*offsets: int, judged: int, end: int, log: int = 2) -> LogSide:
    value = ledger.encode([RUN], [], [Dead(2, 1, Reason.INVALID_TIME)])
    return LogSide({(2, 0): end}, {(2, 0): judged}, {0: {ledger.key_of(log, 0, offset): value for offset in offsets}})


def test_what_was_appended_after_the_look_is_for_the_next_balance():
    balance = balance_of(side_of(5, 6, 7, judged=8, end=6), {Coordinate(2, 0, 5): Landed(0b11)})
    assert balance.totals() == Counts(3, 2, 0, 1, 0, 0)
    assert balance.is_balanced


def test_a_chunk_that_the_worker_has_committed_and_that_left_no_row_is_missing_and_a_later_one_in_flight():
    balance = balance_of(side_of(5, 6, judged=6, end=7), {})
    assert [str(gap) for gap in balance.gaps] == ["2/0/5/0-1"]
    assert balance.totals() == Counts(6, 0, 0, 2, 2, 2)


def test_a_chunk_of_an_earlier_log_has_been_judged_whatever_the_worker_has_committed_since():
    balance = balance_of(side_of(5, judged=0, end=0, log=1), {})
    assert [str(gap) for gap in balance.gaps] == ["1/0/5/0-1"]


def test_a_chunk_that_was_committed_without_a_record_is_missing_unless_its_rows_are_there():
    side = side_of(5, judged=7, end=7)
    side.unrecorded.append(
        accepted_of(Coordinate(2, 0, 6), FakeRecord(chunk.encode(chunk.Chunk([part(3)]))), is_judged=True)
    )
    landed = {Coordinate(2, 0, 5): Landed(0b11), Coordinate(2, 0, 6): Landed(0b101)}
    balance = balance_of(side, landed)
    assert [str(gap) for gap in balance.gaps] == ["2/0/6/1"]


def test_what_is_between_worker_and_lander_is_in_flight_and_what_the_lander_refused_is_dead():
    side = side_of(5, judged=6, end=6)
    side.on_the_way[ledger.key_of(2, 0, 5)] = 0b01
    side.refused_at_lander[ledger.key_of(2, 0, 5)] = {Reason.INSERT_REFUSED: 0b10}
    balance = balance_of(side, {})
    assert balance.is_balanced
    assert balance.totals() == Counts(3, 0, 0, 2, 1, 0)


def test_what_the_lander_dropped_for_another_origins_sake_is_a_duplicate():
    side = side_of(5, judged=6, end=6)
    side.dropped[ledger.key_of(2, 0, 5)] = 0b01
    balance = balance_of(side, {Coordinate(2, 0, 5): Landed(0b10)})
    assert balance.is_balanced
    assert balance.totals() == Counts(3, 1, 1, 1, 0, 0)


def test_rows_between_two_chunks_that_are_known_were_never_accepted():
    side = side_of(5, 7, judged=8, end=8)
    landed = {Coordinate(2, 0, offset): Landed(0b11) for offset in (5, 6, 7)}
    balance = balance_of(side, landed)
    assert [(str(gap), gap.flaw) for gap in balance.gaps] == [("2/0/6/0-1", Flaw.NEVER_ACCEPTED)]


def test_a_replayed_dead_letter_of_the_gateway_has_landed():
    side = LogSide()
    one = refused_at_gateway(FakeRecord(letter(Stage.INGEST), offset=5))
    assert one is not None
    side.refused_at_gateway.append(one)
    assert balance_of(side, {}).totals() == Counts(1, 0, 0, 1, 0, 0)
    assert balance_of(side, {Coordinate(255, 0, 5): Landed(1)}).totals() == Counts(1, 1, 0, 0, 0, 0)
